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

// Copies and starts large executables.
setDefaultTimeout(60_000);

const isRoot = process.getuid?.() === 0;
let executable: string;
/** The installed executable and its replacement are the same program, so that one build is enough. */
let installed: string;
let offered: string;
let checksum: string;
const folder = createFolder();
const bin = join(folder.path, "bin");

beforeAll(async () => {
  executable = await buildExecutable();
  chmodSync(folder.path, 0o755);
  mkdirSync(bin);
  installed = join(bin, "parley");
  copyFileSync(executable, installed);
  chmodSync(installed, 0o755);
  const downloads = join(folder.path, "downloads");
  mkdirSync(downloads);
  offered = join(downloads, "parley-new");
  copyFileSync(executable, offered);
  checksum = await hash(offered);
});
afterAll(() => folder[Symbol.dispose]());

async function hash(path: string): Promise<string> {
  return new Bun.CryptoHasher("sha256").update(await Bun.file(path).bytes()).digest("hex");
}

type RunOptions = { program?: string; wrapper?: string[]; env?: Record<string, string> };

async function upgrade(args: string[], { program = installed, wrapper = [], env = {} }: RunOptions = {}) {
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

/** Nothing was replaced, and nothing was left behind. */
async function expectUntouched(): Promise<void> {
  expect(readdirSync(bin)).toEqual(["parley"]);
  expect(await hash(installed)).toBe(checksum);
}

/** Expects a rejection with one sentence, and the old executable unchanged. */
async function expectRefusal(args: string[], code: number, sentence: string | RegExp, options?: RunOptions) {
  const result = await upgrade(args, options);
  expect({ args, ...result }).toEqual({ args, code, output: "", errors: expect.stringMatching(sentence) });
  expect(result.errors.trimEnd().split("\n")).toHaveLength(1);
  await expectUntouched();
}

/** Creates a file next to the offered one, removed after the test. */
function writeBeside(name: string, content: string) {
  const path = join(folder.path, "downloads", name);
  writeFileSync(path, content);
  return { path, [Symbol.dispose]: () => rmSync(path) };
}

/** The offered executable with some bytes changed. */
function createVariant(name: string, offset: number, bytes: number[]) {
  const path = join(folder.path, "downloads", name);
  copyFileSync(offered, path);
  const descriptor = openSync(path, "r+");
  writeSync(descriptor, Buffer.from(bytes), 0, bytes.length, offset);
  closeSync(descriptor);
  return { path, [Symbol.dispose]: () => rmSync(path) };
}

test("usage errors exit with code 2", async () => {
  await expectRefusal([], 2, /^The file is missing: `parley upgrade FILE`/);
  await expectRefusal([offered, offered], 2, /takes no argument/);
  await expectRefusal(
    [offered, "--sha256", "12"],
    2,
    /^--sha256 must be 64 hexadecimal digits; `sha256sum FILE` prints them\.$/m,
  );
  await expectRefusal([offered, "--backup", "a", "--no-backup"], 2, /exclude each other; leave one out\.$/m);
  await expectRefusal(["ftp://example.com/parley"], 2, /is neither a file nor an https URL/);
  await expectRefusal(["ftp://ada:secret@example.com/x"], 2, /^ftp:\/\/example\.com\/x is neither/);
  await expectRefusal(["https://"], 2, /is neither a file nor an https URL/);
  await expectRefusal(
    ["http://example.com/parley"],
    2,
    /^Without TLS, .* use https for http:\/\/example\.com\/parley, or pass --sha256\.$/m,
  );
});

test("in a folder without data, nothing is replaced, since there is nothing to back up", async () => {
  await expectRefusal(
    [offered, "--sha256", checksum],
    1,
    /^No embedded database exists in .*set DATA_DIR or DATABASE_URL\.$/m,
  );
});

test("rejects a file without a checksum, with a remedy", async () => {
  await expectRefusal(
    [offered, "--no-backup"],
    1,
    new RegExp(`^No checksum found for ${offered}: .*--sha256 ${checksum}\\.$`, "m"),
  );
  using _unrelated = writeBeside("SHA256SUMS", `${checksum}  another-file\n`);
  await expectRefusal([offered, "--no-backup"], 1, /^No checksum found/);
});

test("rejects a wrong checksum from any source", async () => {
  const wrong = "0".repeat(64);
  const sentence = new RegExp(
    `is damaged or was tampered with: its SHA-256 is ${checksum}, expected ${wrong}\\. Download it again\\.$`,
    "m",
  );
  await expectRefusal([offered, "--no-backup", "--sha256", wrong], 1, sentence);
  {
    using _own = writeBeside("parley-new.sha256", `${wrong}  parley-new\n`);
    await expectRefusal([offered, "--no-backup"], 1, sentence);
    // A correct one in the general list doesn't override it.
    using _list = writeBeside("SHA256SUMS", `${checksum}  parley-new\n`);
    await expectRefusal([offered, "--no-backup"], 1, sentence);
  }
  using _list = writeBeside("SHA256SUMS", `${checksum}  other\n${wrong} *parley-new\n`);
  await expectRefusal([offered, "--no-backup"], 1, sentence);
});

test("rejects a missing file, a folder, and a file that isn't a Parley for this machine", async () => {
  const refuse = async (path: string, sentence: RegExp) =>
    expectRefusal(
      [path, "--no-backup", "--sha256", existsSync(path) && statSync(path).isFile() ? await hash(path) : checksum],
      1,
      sentence,
    );
  await refuse(join(folder.path, "nothing"), /^The file .*nothing doesn't exist; check the path\.$/m);
  await refuse(bin, /is not a file; pass the executable itself\.$/m);
  const machine = process.arch === "x64" ? 183 : 62;
  using foreign = createVariant("foreign", 18, [machine, 0]);
  await refuse(foreign.path, /was built for another processor; use the one named linux-/);
  using gzip = createVariant("archive.gz", 0, [0x1f, 0x8b]);
  await refuse(gzip.path, /is a gzip archive; unpack it/);
  using script = writeBeside("script", "#!/bin/sh\necho 'parley 9.9.9 (0123456789ab)'\n");
  await refuse(script.path, /is not an executable for Linux/);
  using empty = writeBeside("empty", "");
  await refuse(empty.path, /is not an executable for Linux/);
  await refuse("/bin/true", /is not a Parley that runs on this machine: it doesn't name a version of Parley\.$/m);
  using huge = writeBeside("huge", "");
  truncateSync(huge.path, 600_000_000);
  await expectRefusal(
    [huge.path, "--no-backup", "--sha256", checksum],
    1,
    /is larger than 512 MiB, so it isn't Parley; check the name\.$/m,
  );
  using damaged = createVariant("damaged", 24, [0, 0, 0, 0, 0, 0, 0, 0]);
  await refuse(damaged.path, /is not a Parley that runs on this machine: /);
});

test.if(isRoot)("rejects a folder without write permission; a full disk leaves the old executable intact", async () => {
  const wrapper = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];
  await expectRefusal(
    [offered, "--no-backup", "--sha256", checksum],
    1,
    /can't be written by this user.*run this as root/,
    { wrapper },
  );

  chmodSync(bin, 0o777);
  chmodSync(offered, 0o600);
  const unreadable = /parley-new can't be read by this user; change its permissions/;
  await expectRefusal([offered, "--no-backup", "--sha256", checksum], 1, unreadable, { wrapper });
  chmodSync(offered, 0o644);
  chmodSync(bin, 0o755);

  const small = join(folder.path, "small");
  mkdirSync(small);
  const bytes = statSync(installed).size;
  expect(Bun.spawnSync(["mount", "-t", "tmpfs", "-o", `size=${bytes + 20_000_000}`, "tmpfs", small]).exitCode).toBe(0);
  try {
    const program = join(small, "parley");
    copyFileSync(installed, program);
    chmodSync(program, 0o755);
    // Detected before the download, or during it if the length is unknown.
    for (const source of [offered, `http://localhost:${server.port}/chunked`])
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
    const file = Bun.file(offered);
    const sums: Record<string, string> = {
      "/listed/SHA256SUMS": `${checksum}  parley-1\n`,
      "/own/parley-1.sha256": `${checksum}\n`,
      "/cut/SHA256SUMS": `${checksum}  parley-1\n`,
    };
    if (pathname in sums) return new Response(sums[pathname]);
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
              slowRequests.resolve();
            },
          }),
        );
      default:
        return new Response("not here", { status: 404 });
    }
  },
});
let slowRequests = Promise.withResolvers<void>();
afterAll(() => server.stop(true));
const at = (path: string) => `http://localhost:${server.port}${path}`;

test("rejects an unusable URL", async () => {
  await expectRefusal(
    [at("/missing?token=secret"), "--no-backup"],
    1,
    /\/missing can't be downloaded \(status 404\); check the URL\.$/m,
  );
  await expectRefusal([at("/none/parley-1"), "--no-backup"], 1, /^No checksum found for http/);
  await expectRefusal([at("/cut/parley-1"), "--no-backup"], 1, /is damaged or was tampered with/);
  await expectRefusal([at("/loop"), "--no-backup"], 1, /redirects more than 5 times/);
  await expectRefusal(
    [at("/away/parley-1?to=http://203.0.113.1/parley"), "--no-backup"],
    1,
    /redirects to http:\/\/203\.0\.113\.1\/parley, which doesn't use TLS/,
  );
  await expectRefusal([at("/away/parley-1?to=file:///etc/passwd"), "--no-backup"], 1, /redirects to an unusable URL/);
  await expectRefusal(
    ["http://localhost:1/parley", "--no-backup"],
    1,
    /^http:\/\/localhost:1\/parley(\.sha256)? can't be reached \(.*\); check the URL and the network\.$/m,
  );
});

/** Responds to every request with this text, then closes the connection. */
function answerRaw(text: string) {
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

test("rejects a download that is too large, or breaks off", async () => {
  const args = ["--no-backup", "--sha256", checksum];
  using huge = answerRaw("HTTP/1.1 200 OK\r\ncontent-length: 600000000\r\n\r\nabc");
  await expectRefusal([huge.url, ...args], 1, /is larger than 512 MiB, so it isn't Parley; check the name\.$/m);
  using short = answerRaw("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nabc");
  await expectRefusal([short.url, ...args], 1, /(could not be read completely|ended after 3 of 1000 bytes).*try again/);
});

test("verifies the certificate over TLS", async () => {
  const certificates = createCertificates();
  const { cert, key, certFile } = certificates.create("localhost");
  using secure = Bun.serve({
    port: 0,
    hostname: "localhost",
    tls: { cert, key },
    fetch: ({ url }) =>
      url.endsWith("/parley") ? new Response(Bun.file(offered)) : new Response(`${checksum}  parley\n`),
  });
  const url = `https://localhost:${secure.port}/parley`;
  await expectRefusal(
    [url, "--no-backup"],
    1,
    /can't be reached \([^)]*certificate[^)]*\); check the URL and the network\.$/m,
  );
  const trusted = await upgrade([url, "--no-backup"], { env: { NODE_EXTRA_CA_CERTS: certFile } });
  expect({ code: trusted.code, errors: trusted.errors }).toEqual({ code: 0, errors: "" });
  rmSync(`${installed}.previous`);
  certificates.remove();
});

test("an interrupted or killed download leaves the old executable intact, and the next upgrade cleans up", async () => {
  for (const signal of ["SIGINT", "SIGTERM", "SIGKILL"] as const) {
    slowRequests = Promise.withResolvers();
    const child = Bun.spawn([installed, "upgrade", at("/slow"), "--no-backup", "--sha256", checksum], {
      cwd: folder.path,
      env: { PATH: process.env.PATH ?? "" },
      stdio: ["ignore", "ignore", "pipe"],
    });
    await slowRequests.promise;
    while (!readdirSync(bin).some((name) => name.startsWith(".parley-upgrade-"))) await Bun.sleep(10);
    child.kill(signal);
    await child.exited;
    const errors = await new Response(child.stderr).text();
    if (signal === "SIGKILL") expect(readdirSync(bin)).toHaveLength(2);
    else expect(errors).toBe("The upgrade was interrupted; nothing was replaced.\n");
    expect(await hash(installed)).toBe(checksum);
  }
  expect(await upgrade([offered, "--no-backup"])).toMatchObject({ code: 1 });
  await expectUntouched();
});

test("a checksum file next to it is enough, for a file, a URL, and through a redirect", async () => {
  using _list = writeBeside("SHA256SUMS", `SHA256 (parley-new) = ${checksum.toUpperCase()}\n`);
  const link = join(folder.path, "link");
  symlinkSync(installed, link);
  const ways: [string[], RunOptions][] = [
    [[offered], {}],
    [[at("/listed/parley-1")], {}],
    [[at("/own/parley-1")], {}],
    [[at("/redirect/parley-1")], {}],
    [[at("/chunked"), "--sha256", checksum.toUpperCase()], {}],
    [[offered], { program: link }],
  ];
  for (const [args, options] of ways) {
    const before = statSync(installed).ino;
    const { code, output, errors } = await upgrade([...args, "--no-backup"], options);
    expect({ args, code, errors }).toEqual({ args, code: 0, errors: "" });
    expect(output).toContain(`Upgraded ${installed} from `);
    expect(output).toContain(`mv ${installed}.previous ${installed}`);
    const after = statSync(installed);
    expect(after.ino).not.toBe(before);
    expect(after.mode & 0o777).toBe(0o755);
    expect(readdirSync(bin).sort()).toEqual(["parley", "parley.previous"]);
  }
  // Upgrading to the same program again doesn't replace the kept one.
  const kept = statSync(`${installed}.previous`).ino;
  await upgrade([offered, "--no-backup"]);
  expect(statSync(`${installed}.previous`).ino).toBe(kept);
  rmSync(`${installed}.previous`);
  await expectUntouched();
});

test("can't replace anything when run from source", async () => {
  const child = Bun.spawn([process.execPath, "src/main.ts", "upgrade", offered, "--no-backup"], {
    cwd: join(import.meta.dir, "../.."),
    stdio: ["ignore", "pipe", "pipe"],
  });
  expect(await new Response(child.stderr).text()).toMatch(/^This Parley runs from its source/);
  expect(await child.exited).toBe(1);
});
