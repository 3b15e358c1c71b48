import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import {
  chmodSync,
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { buildExecutable } from "../acceptance/executable.ts";
import { createCertificates } from "../support/certificates.ts";
import { createFolder } from "./run-parley.ts";

// The tests copy and start large executables.
setDefaultTimeout(60_000);

const isRoot = process.getuid?.() === 0;
let executable: string;
/** The installed executable and the new executable are copies of the same file, so that one build is enough. */
let installedPath: string;
let newPath: string;
let checksum: string;
const folder = createFolder();
const binFolder = join(folder.path, "bin");

beforeAll(async () => {
  executable = await buildExecutable();
  chmodSync(folder.path, 0o755);
  mkdirSync(binFolder);
  installedPath = join(binFolder, "parley");
  copyFileSync(executable, installedPath);
  chmodSync(installedPath, 0o755);
  const downloads = join(folder.path, "downloads");
  mkdirSync(downloads);
  newPath = join(downloads, "parley-new");
  copyFileSync(executable, newPath);
  checksum = await hashFile(newPath);
});
afterAll(() => folder[Symbol.dispose]());

async function hashFile(path: string): Promise<string> {
  return new Bun.CryptoHasher("sha256").update(await Bun.file(path).bytes()).digest("hex");
}

type RunOptions = { program?: string; wrapper?: string[]; env?: Record<string, string> };

async function runUpgrade(args: string[], { program = installedPath, wrapper = [], env = {} }: RunOptions = {}) {
  const child = Bun.spawn([...wrapper, program, "upgrade", ...args], {
    cwd: folder.path,
    env: { PATH: process.env.PATH ?? "", ...env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, stdout, stderr };
}

/** Checks that the old executable is unchanged, and that no other files remain. */
async function expectUnchanged(): Promise<void> {
  expect(readdirSync(binFolder)).toEqual(["parley"]);
  expect(await hashFile(installedPath)).toBe(checksum);
}

/** Checks that the upgrade fails with one error and changes nothing. */
async function expectRejection(args: string[], code: number, expectedError: string | RegExp, options?: RunOptions) {
  const result = await runUpgrade(args, options);
  expect({ args, ...result }).toEqual({ args, code, stdout: "", stderr: expect.stringMatching(expectedError) });
  expect(result.stderr.trimEnd().split("\n")).toHaveLength(1);
  await expectUnchanged();
}

/** Creates a file next to the new executable. `using` removes it after the test. */
function createDownload(name: string, content: string) {
  const path = join(folder.path, "downloads", name);
  writeFileSync(path, content);
  return { path, [Symbol.dispose]: () => rmSync(path) };
}

/** Creates a copy of the new executable with some bytes changed. */
function createVariant(name: string, offset: number, bytes: number[]) {
  const path = join(folder.path, "downloads", name);
  copyFileSync(newPath, path);
  const descriptor = openSync(path, "r+");
  writeSync(descriptor, Buffer.from(bytes), 0, bytes.length, offset);
  closeSync(descriptor);
  return { path, [Symbol.dispose]: () => rmSync(path) };
}

test("usage errors exit with code 2", async () => {
  await expectRejection([], 2, /^The file is missing: `parley upgrade FILE`/);
  await expectRejection([newPath, newPath], 2, /does not accept the argument/);
  await expectRejection(
    [newPath, "--sha256", "12"],
    2,
    /^--sha256 must be 64 hexadecimal digits; `sha256sum FILE` prints them\.$/m,
  );
  await expectRejection([newPath, "--backup", "a", "--no-backup"], 2, /are mutually exclusive; use only one\.$/m);
  await expectRejection(["ftp://example.com/parley"], 2, /is neither a file nor an https URL/);
  await expectRejection(["ftp://ada:secret@example.com/x"], 2, /^ftp:\/\/example\.com\/x is neither/);
  await expectRejection(["https://"], 2, /is neither a file nor an https URL/);
  await expectRejection(
    ["http://example.com/parley"],
    2,
    /^Without TLS, .* use https for http:\/\/example\.com\/parley, or pass --sha256\.$/m,
  );
});

test("an upgrade fails in a folder without data, because it can't create a backup", async () => {
  await expectRejection(
    [newPath, "--sha256", checksum],
    1,
    /^No embedded database exists in .*set DATA_DIR or DATABASE_URL\.$/m,
  );
});

test("a file without a checksum is rejected, and the error explains how to provide one", async () => {
  await expectRejection(
    [newPath, "--no-backup"],
    1,
    new RegExp(`^No checksum found for ${newPath}: .*--sha256 ${checksum}\\.$`, "m"),
  );
  using _unrelated = createDownload("SHA256SUMS", `${checksum}  another-file\n`);
  await expectRejection([newPath, "--no-backup"], 1, /^No checksum found/);
});

test("a file that doesn't match its checksum is rejected, whatever the source of the checksum", async () => {
  const wrongChecksum = "0".repeat(64);
  const expectedError = new RegExp(
    `is damaged or was tampered with: its SHA-256 is ${checksum}, expected ${wrongChecksum}\\. Download it again\\.$`,
    "m",
  );
  await expectRejection([newPath, "--no-backup", "--sha256", wrongChecksum], 1, expectedError);
  {
    using _checksumFile = createDownload("parley-new.sha256", `${wrongChecksum}  parley-new\n`);
    await expectRejection([newPath, "--no-backup"], 1, expectedError);
    // A correct checksum in SHA256SUMS doesn't override the wrong checksum in parley-new.sha256.
    using _checksumList = createDownload("SHA256SUMS", `${checksum}  parley-new\n`);
    await expectRejection([newPath, "--no-backup"], 1, expectedError);
  }
  using _checksumList = createDownload("SHA256SUMS", `${checksum}  other\n${wrongChecksum} *parley-new\n`);
  await expectRejection([newPath, "--no-backup"], 1, expectedError);
});

test("a missing file, a folder, and a file that isn't a Parley executable for this machine are rejected", async () => {
  const expectRejectedFile = async (path: string, expectedError: RegExp) =>
    expectRejection(
      [path, "--no-backup", "--sha256", existsSync(path) && statSync(path).isFile() ? await hashFile(path) : checksum],
      1,
      expectedError,
    );
  await expectRejectedFile(join(folder.path, "nothing"), /^The file .*nothing doesn't exist; check the path\.$/m);
  await expectRejectedFile(binFolder, /is not a file; pass the executable itself\.$/m);
  /** The number of the other architecture in an ELF header (arm64 or x86-64). */
  const otherMachine = process.arch === "x64" ? 183 : 62;
  using otherArchitecture = createVariant("other-architecture", 18, [otherMachine, 0]);
  await expectRejectedFile(otherArchitecture.path, /was built for a different processor; use the one named linux-/);
  using gzip = createVariant("archive.gz", 0, [0x1f, 0x8b]);
  await expectRejectedFile(gzip.path, /is a gzip archive; unpack it/);
  using script = createDownload("script", "#!/bin/sh\necho 'parley 9.9.9 (0123456789ab)'\n");
  await expectRejectedFile(script.path, /is not an executable for Linux/);
  using empty = createDownload("empty", "");
  await expectRejectedFile(empty.path, /is not an executable for Linux/);
  await expectRejectedFile(
    "/bin/true",
    /is not a Parley that runs on this machine: it doesn't report a Parley version\.$/m,
  );
  using huge = createDownload("huge", "");
  truncateSync(huge.path, 600_000_000);
  await expectRejection(
    [huge.path, "--no-backup", "--sha256", checksum],
    1,
    /is larger than 512 MiB, so it isn't Parley; check the name\.$/m,
  );
  using damaged = createVariant("damaged", 24, [0, 0, 0, 0, 0, 0, 0, 0]);
  await expectRejectedFile(damaged.path, /is not a Parley that runs on this machine: /);
});

test.if(isRoot)("missing permissions and a full disk leave the old executable unchanged", async () => {
  const wrapper = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];
  await expectRejection(
    [newPath, "--no-backup", "--sha256", checksum],
    1,
    /can't be written by this user.*run this as root/,
    { wrapper },
  );

  chmodSync(binFolder, 0o777);
  chmodSync(newPath, 0o600);
  const unreadableError = /parley-new can't be read by this user; change its permissions/;
  await expectRejection([newPath, "--no-backup", "--sha256", checksum], 1, unreadableError, { wrapper });
  chmodSync(newPath, 0o644);
  chmodSync(binFolder, 0o755);

  const smallDisk = join(folder.path, "small-disk");
  mkdirSync(smallDisk);
  const bytes = statSync(installedPath).size;
  expect(Bun.spawnSync(["mount", "-t", "tmpfs", "-o", `size=${bytes + 20_000_000}`, "tmpfs", smallDisk]).exitCode).toBe(
    0,
  );
  try {
    const program = join(smallDisk, "parley");
    copyFileSync(installedPath, program);
    chmodSync(program, 0o755);
    // A full disk is detected before the download starts, or during the download if its length is unknown.
    for (const source of [newPath, `http://localhost:${server.port}/chunked`])
      expect(await runUpgrade([source, "--no-backup", "--sha256", checksum], { program })).toMatchObject({
        code: 1,
        stderr: expect.stringMatching(
          /^(.* does not have enough space for .*free some space|The disk of .* is full; free some space\. Nothing was replaced)\.\n$/,
        ),
      });
    expect(readdirSync(smallDisk)).toEqual(["parley"]);
    expect(await hashFile(program)).toBe(checksum);
  } finally {
    Bun.spawnSync(["umount", smallDisk]);
  }
});

const server = Bun.serve({
  port: 0,
  hostname: "localhost",
  idleTimeout: 60,
  async fetch(request) {
    const { pathname, searchParams } = new URL(request.url);
    const file = Bun.file(newPath);
    const checksums: Record<string, string> = {
      "/listed/SHA256SUMS": `${checksum}  parley-1\n`,
      "/own/parley-1.sha256": `${checksum}\n`,
      "/cut/SHA256SUMS": `${checksum}  parley-1\n`,
    };
    if (pathname in checksums) return new Response(checksums[pathname]);
    switch (pathname) {
      case "/listed/parley-1":
      case "/own/parley-1":
      case "/none/parley-1":
        return new Response(file);
      case "/chunked":
        return new Response(file.stream());
      case "/cut/parley-1":
        return new Response(await file.slice(0, 1_000_000).arrayBuffer());
      case "/redirect/SHA256SUMS":
      case "/redirect/parley-1":
        return Response.redirect(pathname.replace("redirect", "listed"));
      case "/away/parley-1":
        return Response.redirect(searchParams.get("to") ?? "");
      case "/loop":
        return Response.redirect("/loop");
      case "/slow":
        return new Response(
          new ReadableStream({
            async start(controller) {
              controller.enqueue(new Uint8Array(await file.slice(0, 1_000_000).arrayBuffer()));
              slowDownload.resolve();
            },
          }),
        );
      default:
        return new Response("not here", { status: 404 });
    }
  },
});
let slowDownload = Promise.withResolvers<void>();
afterAll(() => server.stop(true));
const createUrl = (path: string) => `http://localhost:${server.port}${path}`;

test("an unusable URL is rejected", async () => {
  await expectRejection(
    [createUrl("/missing?token=secret"), "--no-backup"],
    1,
    /\/missing can't be downloaded \(status 404\); check the URL\.$/m,
  );
  await expectRejection([createUrl("/none/parley-1"), "--no-backup"], 1, /^No checksum found for http/);
  await expectRejection([createUrl("/cut/parley-1"), "--no-backup"], 1, /is damaged or was tampered with/);
  await expectRejection([createUrl("/loop"), "--no-backup"], 1, /redirects more than 5 times/);
  await expectRejection(
    [createUrl("/away/parley-1?to=http://203.0.113.1/parley"), "--no-backup"],
    1,
    /redirects to http:\/\/203\.0\.113\.1\/parley, which doesn't use TLS/,
  );
  await expectRejection(
    [createUrl("/away/parley-1?to=file:///etc/passwd"), "--no-backup"],
    1,
    /redirects to an unusable URL/,
  );
  await expectRejection(
    ["http://localhost:1/parley", "--no-backup"],
    1,
    /^http:\/\/localhost:1\/parley(\.sha256)? can't be reached \(.*\); check the URL and the network\.$/m,
  );
});

/** Starts a server that responds to every request with this text, then closes the connection. */
function serveRaw(text: string) {
  const listener = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(socket) {
        socket.write(text);
        socket.end();
      },
    },
  });
  return { url: `http://127.0.0.1:${listener.port}/parley`, [Symbol.dispose]: () => listener.stop(true) };
}

test("a download that is too large or incomplete is rejected", async () => {
  const args = ["--no-backup", "--sha256", checksum];
  using largeDownload = serveRaw("HTTP/1.1 200 OK\r\ncontent-length: 600000000\r\n\r\nabc");
  await expectRejection(
    [largeDownload.url, ...args],
    1,
    /is larger than 512 MiB, so it isn't Parley; check the name\.$/m,
  );
  using incompleteDownload = serveRaw("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nabc");
  await expectRejection(
    [incompleteDownload.url, ...args],
    1,
    /(could not be read completely|ended after 3 of 1000 bytes).*try again/,
  );
});

test("an upgrade over TLS verifies the certificate", async () => {
  const certificates = createCertificates();
  const { cert, key, certFile } = certificates.create("localhost");
  using tlsServer = Bun.serve({
    port: 0,
    hostname: "localhost",
    tls: { cert, key },
    fetch: ({ url }) =>
      url.endsWith("/parley") ? new Response(Bun.file(newPath)) : new Response(`${checksum}  parley\n`),
  });
  const url = `https://localhost:${tlsServer.port}/parley`;
  await expectRejection(
    [url, "--no-backup"],
    1,
    /can't be reached \([^)]*certificate[^)]*\); check the URL and the network\.$/m,
  );
  const { code, stderr } = await runUpgrade([url, "--no-backup"], { env: { NODE_EXTRA_CA_CERTS: certFile } });
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  rmSync(`${installedPath}.previous`);
  certificates.remove();
});

test("an interrupted or killed download changes nothing, and the next upgrade removes its partial files", async () => {
  for (const signal of ["SIGINT", "SIGTERM", "SIGKILL"] as const) {
    slowDownload = Promise.withResolvers();
    const child = Bun.spawn([installedPath, "upgrade", createUrl("/slow"), "--no-backup", "--sha256", checksum], {
      cwd: folder.path,
      env: { PATH: process.env.PATH ?? "" },
      stdio: ["ignore", "ignore", "pipe"],
    });
    await slowDownload.promise;
    while (!readdirSync(binFolder).some((name) => name.startsWith(".parley-upgrade-"))) await Bun.sleep(10);
    child.kill(signal);
    await child.exited;
    const stderr = await new Response(child.stderr).text();
    if (signal === "SIGKILL") expect(readdirSync(binFolder)).toHaveLength(2);
    else expect(stderr).toBe("The upgrade was interrupted; nothing was replaced.\n");
    expect(await hashFile(installedPath)).toBe(checksum);
  }
  expect(await runUpgrade([newPath, "--no-backup"])).toMatchObject({ code: 1 });
  await expectUnchanged();
});

test("the checksum file can be next to a local file, a URL or a redirecting URL", async () => {
  using _checksumList = createDownload("SHA256SUMS", `SHA256 (parley-new) = ${checksum.toUpperCase()}\n`);
  const link = join(folder.path, "link");
  symlinkSync(installedPath, link);
  const sources: [string[], RunOptions][] = [
    [[newPath], {}],
    [[createUrl("/listed/parley-1")], {}],
    [[createUrl("/own/parley-1")], {}],
    [[createUrl("/redirect/parley-1")], {}],
    [[createUrl("/chunked"), "--sha256", checksum.toUpperCase()], {}],
    [[newPath], { program: link }],
  ];
  for (const [args, options] of sources) {
    const inodeBefore = statSync(installedPath).ino;
    const { code, stdout, stderr } = await runUpgrade([...args, "--no-backup"], options);
    expect({ args, code, stderr }).toEqual({ args, code: 0, stderr: "" });
    expect(stdout).toContain(`Upgraded ${installedPath} from `);
    expect(stdout).toContain(`mv ${installedPath}.previous ${installedPath}`);
    const statsAfter = statSync(installedPath);
    expect(statsAfter.ino).not.toBe(inodeBefore);
    expect(statsAfter.mode & 0o777).toBe(0o755);
    expect(readdirSync(binFolder).sort()).toEqual(["parley", "parley.previous"]);
  }
  // A second upgrade to the same executable doesn't replace `parley.previous`.
  const previousInode = statSync(`${installedPath}.previous`).ino;
  await runUpgrade([newPath, "--no-backup"]);
  expect(statSync(`${installedPath}.previous`).ino).toBe(previousInode);
  rmSync(`${installedPath}.previous`);
  await expectUnchanged();
});

test("Parley can't be upgraded if it runs from source", async () => {
  const child = Bun.spawn([process.execPath, "src/main.ts", "upgrade", newPath, "--no-backup"], {
    cwd: join(import.meta.dir, "../.."),
    stdio: ["ignore", "pipe", "pipe"],
  });
  expect(await new Response(child.stderr).text()).toMatch(/^Parley is running from source/);
  expect(await child.exited).toBe(1);
});
