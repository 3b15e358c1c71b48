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
/** The installed executable. The new executable is a copy of it, so that one build is enough. */
let installedPath: string;
let newPath: string;
let checksum: string;
const folder = createFolder();
const bin = join(folder.path, "bin");

beforeAll(async () => {
  executable = await buildExecutable();
  chmodSync(folder.path, 0o755);
  mkdirSync(bin);
  installedPath = join(bin, "parley");
  copyFileSync(executable, installedPath);
  chmodSync(installedPath, 0o755);
  const downloads = join(folder.path, "downloads");
  mkdirSync(downloads);
  newPath = join(downloads, "parley-new");
  copyFileSync(executable, newPath);
  checksum = await hash(newPath);
});
afterAll(() => folder[Symbol.dispose]());

async function hash(path: string): Promise<string> {
  return new Bun.CryptoHasher("sha256").update(await Bun.file(path).bytes()).digest("hex");
}

type RunOptions = { program?: string; wrapper?: string[]; env?: Record<string, string> };

async function upgrade(args: string[], { program = installedPath, wrapper = [], env = {} }: RunOptions = {}) {
  const child = Bun.spawn([...wrapper, program, "upgrade", ...args], {
    cwd: folder.path,
    env: { PATH: process.env.PATH ?? "", ...env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [output, errors] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, output, errors };
}

/** Checks that the old executable is unchanged, and that no other files remain. */
async function expectUnchanged(): Promise<void> {
  expect(readdirSync(bin)).toEqual(["parley"]);
  expect(await hash(installedPath)).toBe(checksum);
}

/** Checks that the upgrade fails with one error and changes nothing. */
async function expectRejection(args: string[], code: number, expectedError: string | RegExp, options?: RunOptions) {
  const result = await upgrade(args, options);
  expect({ args, ...result }).toEqual({ args, code, output: "", errors: expect.stringMatching(expectedError) });
  expect(result.errors.trimEnd().split("\n")).toHaveLength(1);
  await expectUnchanged();
}

/** Creates a file next to the new executable. `using` removes it after the test. */
function writeDownload(name: string, content: string) {
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
  await expectRejection([newPath, "--backup", "a", "--no-backup"], 2, /exclude each other; leave one out\.$/m);
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

test("a file without a checksum is rejected, and the error says how to provide one", async () => {
  await expectRejection(
    [newPath, "--no-backup"],
    1,
    new RegExp(`^No checksum found for ${newPath}: .*--sha256 ${checksum}\\.$`, "m"),
  );
  using _unrelated = writeDownload("SHA256SUMS", `${checksum}  another-file\n`);
  await expectRejection([newPath, "--no-backup"], 1, /^No checksum found/);
});

test("a wrong checksum is rejected from any source", async () => {
  const wrong = "0".repeat(64);
  const expectedError = new RegExp(
    `is damaged or was tampered with: its SHA-256 is ${checksum}, expected ${wrong}\\. Download it again\\.$`,
    "m",
  );
  await expectRejection([newPath, "--no-backup", "--sha256", wrong], 1, expectedError);
  {
    using _own = writeDownload("parley-new.sha256", `${wrong}  parley-new\n`);
    await expectRejection([newPath, "--no-backup"], 1, expectedError);
    // A correct checksum in SHA256SUMS doesn't override it.
    using _list = writeDownload("SHA256SUMS", `${checksum}  parley-new\n`);
    await expectRejection([newPath, "--no-backup"], 1, expectedError);
  }
  using _list = writeDownload("SHA256SUMS", `${checksum}  other\n${wrong} *parley-new\n`);
  await expectRejection([newPath, "--no-backup"], 1, expectedError);
});

test("a missing file, a folder, and a file that isn't a Parley executable for this machine are rejected", async () => {
  const expectRejectedFile = async (path: string, expectedError: RegExp) =>
    expectRejection(
      [path, "--no-backup", "--sha256", existsSync(path) && statSync(path).isFile() ? await hash(path) : checksum],
      1,
      expectedError,
    );
  await expectRejectedFile(join(folder.path, "nothing"), /^The file .*nothing doesn't exist; check the path\.$/m);
  await expectRejectedFile(bin, /is not a file; pass the executable itself\.$/m);
  const machine = process.arch === "x64" ? 183 : 62;
  using foreign = createVariant("foreign", 18, [machine, 0]);
  await expectRejectedFile(foreign.path, /was built for another processor; use the one named linux-/);
  using gzip = createVariant("archive.gz", 0, [0x1f, 0x8b]);
  await expectRejectedFile(gzip.path, /is a gzip archive; unpack it/);
  using script = writeDownload("script", "#!/bin/sh\necho 'parley 9.9.9 (0123456789ab)'\n");
  await expectRejectedFile(script.path, /is not an executable for Linux/);
  using empty = writeDownload("empty", "");
  await expectRejectedFile(empty.path, /is not an executable for Linux/);
  await expectRejectedFile(
    "/bin/true",
    /is not a Parley that runs on this machine: it doesn't name a version of Parley\.$/m,
  );
  using huge = writeDownload("huge", "");
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

  chmodSync(bin, 0o777);
  chmodSync(newPath, 0o600);
  const unreadable = /parley-new can't be read by this user; change its permissions/;
  await expectRejection([newPath, "--no-backup", "--sha256", checksum], 1, unreadable, { wrapper });
  chmodSync(newPath, 0o644);
  chmodSync(bin, 0o755);

  const small = join(folder.path, "small");
  mkdirSync(small);
  const bytes = statSync(installedPath).size;
  expect(Bun.spawnSync(["mount", "-t", "tmpfs", "-o", `size=${bytes + 20_000_000}`, "tmpfs", small]).exitCode).toBe(0);
  try {
    const program = join(small, "parley");
    copyFileSync(installedPath, program);
    chmodSync(program, 0o755);
    // A full disk is detected before the download, or during it if the length is unknown.
    for (const source of [newPath, `http://localhost:${server.port}/chunked`])
      expect(await upgrade([source, "--no-backup", "--sha256", checksum], { program })).toMatchObject({
        code: 1,
        errors: expect.stringMatching(
          /^(.* has not enough space for .*free some space|The disk of .* is full; free some space\. Nothing was replaced)\.\n$/,
        ),
      });
    expect(readdirSync(small)).toEqual(["parley"]);
    expect(await hash(program)).toBe(checksum);
  } finally {
    Bun.spawnSync(["umount", small]);
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
  using huge = serveRaw("HTTP/1.1 200 OK\r\ncontent-length: 600000000\r\n\r\nabc");
  await expectRejection([huge.url, ...args], 1, /is larger than 512 MiB, so it isn't Parley; check the name\.$/m);
  using short = serveRaw("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nabc");
  await expectRejection(
    [short.url, ...args],
    1,
    /(could not be read completely|ended after 3 of 1000 bytes).*try again/,
  );
});

test("an upgrade over TLS verifies the certificate", async () => {
  const certificates = createCertificates();
  const { cert, key, certFile } = certificates.create("localhost");
  using secure = Bun.serve({
    port: 0,
    hostname: "localhost",
    tls: { cert, key },
    fetch: ({ url }) =>
      url.endsWith("/parley") ? new Response(Bun.file(newPath)) : new Response(`${checksum}  parley\n`),
  });
  const url = `https://localhost:${secure.port}/parley`;
  await expectRejection(
    [url, "--no-backup"],
    1,
    /can't be reached \([^)]*certificate[^)]*\); check the URL and the network\.$/m,
  );
  const trusted = await upgrade([url, "--no-backup"], { env: { NODE_EXTRA_CA_CERTS: certFile } });
  expect({ code: trusted.code, errors: trusted.errors }).toEqual({ code: 0, errors: "" });
  rmSync(`${installedPath}.previous`);
  certificates.remove();
});

test("an interrupted or killed download leaves the old executable unchanged, and the next upgrade cleans up", async () => {
  for (const signal of ["SIGINT", "SIGTERM", "SIGKILL"] as const) {
    slowDownload = Promise.withResolvers();
    const child = Bun.spawn([installedPath, "upgrade", createUrl("/slow"), "--no-backup", "--sha256", checksum], {
      cwd: folder.path,
      env: { PATH: process.env.PATH ?? "" },
      stdio: ["ignore", "ignore", "pipe"],
    });
    await slowDownload.promise;
    while (!readdirSync(bin).some((name) => name.startsWith(".parley-upgrade-"))) await Bun.sleep(10);
    child.kill(signal);
    await child.exited;
    const errors = await new Response(child.stderr).text();
    if (signal === "SIGKILL") expect(readdirSync(bin)).toHaveLength(2);
    else expect(errors).toBe("The upgrade was interrupted; nothing was replaced.\n");
    expect(await hash(installedPath)).toBe(checksum);
  }
  expect(await upgrade([newPath, "--no-backup"])).toMatchObject({ code: 1 });
  await expectUnchanged();
});

test("the checksum file can be next to a local file, a URL or a redirecting URL", async () => {
  using _list = writeDownload("SHA256SUMS", `SHA256 (parley-new) = ${checksum.toUpperCase()}\n`);
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
    const { code, output, errors } = await upgrade([...args, "--no-backup"], options);
    expect({ args, code, errors }).toEqual({ args, code: 0, errors: "" });
    expect(output).toContain(`Upgraded ${installedPath} from `);
    expect(output).toContain(`mv ${installedPath}.previous ${installedPath}`);
    const after = statSync(installedPath);
    expect(after.ino).not.toBe(inodeBefore);
    expect(after.mode & 0o777).toBe(0o755);
    expect(readdirSync(bin).sort()).toEqual(["parley", "parley.previous"]);
  }
  // Upgrading to the same program again doesn't replace the previous one.
  const previousInode = statSync(`${installedPath}.previous`).ino;
  await upgrade([newPath, "--no-backup"]);
  expect(statSync(`${installedPath}.previous`).ino).toBe(previousInode);
  rmSync(`${installedPath}.previous`);
  await expectUnchanged();
});

test("Parley can't be upgraded if it runs from source", async () => {
  const child = Bun.spawn([process.execPath, "src/main.ts", "upgrade", newPath, "--no-backup"], {
    cwd: join(import.meta.dir, "../.."),
    stdio: ["ignore", "pipe", "pipe"],
  });
  expect(await new Response(child.stderr).text()).toMatch(/^This Parley runs from its source/);
  expect(await child.exited).toBe(1);
});
