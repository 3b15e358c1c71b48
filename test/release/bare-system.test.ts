import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type DatabaseServer, findFreePort, startDatabaseServer } from "../acceptance/database-server.ts";
import { getExecutableCopy } from "../acceptance/executable.ts";

setDefaultTimeout(60_000);

let root = "";
let server: DatabaseServer;

/** Creates a root folder with only the executable and its C libraries, without a shell, users or commands. */
beforeAll(async () => {
  const executable = await getExecutableCopy();
  root = mkdtempSync(join(tmpdir(), "parley-bare-"));
  // If Parley runs as root, the embedded Postgres runs as a different user, who needs access to the folder.
  chmodSync(root, 0o755);
  for (const folder of ["proc", "dev", "data", "tmp"]) mkdirSync(join(root, folder));
  copyFileSync(executable, join(root, "parley"));
  chmodSync(join(root, "parley"), 0o755);
  const lddOutput = Bun.spawnSync(["ldd", executable]).stdout.toString();
  const libraries = [...lddOutput.matchAll(/(\/\S+) \(0x/g)].map(([, path]) => path ?? "");
  expect(libraries.length).toBeGreaterThan(1);
  for (const path of libraries) {
    // If the runtime needs other libraries, the documentation must list them.
    expect(path).toMatch(/\/(ld-linux[\w.-]*|lib(c|m|dl|pthread|rt))\.so\.\d+$/);
    mkdirSync(join(root, dirname(path)), { recursive: true });
    copyFileSync(realpathSync(path), join(root, path));
    chmodSync(join(root, path), 0o755);
  }
  server = await startDatabaseServer();
});

afterAll(async () => {
  await server.stop();
  rmSync(root, { recursive: true, force: true });
});

/** Mounts /proc and some devices, which every kernel provides, and enters the root folder. */
const ENTER_SCRIPT = `
mount -t proc proc "$0/proc"
for device in null zero random urandom; do : > "$0/dev/$device"; mount --bind "/dev/$device" "$0/dev/$device"; done
exec chroot "$0" "$@"`;

/** Runs Parley in a namespace whose processes and mounts end with its first process. */
function runInRoot(args: string[], env: Record<string, string> = {}) {
  const user = process.getuid?.() === 0 ? [] : ["--map-root-user"];
  const unshare = ["unshare", ...user, "--mount", "--pid", "--fork", "--kill-child"];
  return Bun.spawn([...unshare, "/bin/sh", "-ec", ENTER_SCRIPT, root, "/parley", ...args], {
    env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", DATA_DIR: "/data", ...env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
}

test("the root folder contains only the executable and its libraries", () => {
  expect(existsSync(join(root, "bin/sh"))).toBe(false);
  const files = [...new Bun.Glob("**/*").scanSync(root)].filter((path) => !/\.so\.\d+$/.test(path));
  expect(files).toEqual(["parley"]);
});

test("the executable starts and validates its settings", async () => {
  const version = runInRoot(["--version"]);
  expect(await new Response(version.stdout).text()).toMatch(/^parley \d+\.\d+\.\d+ /);
  const check = runInRoot(["config", "check"]);
  expect(await new Response(check.stdout).text()).toBe("The configuration is valid.\n");
});

test("without DATABASE_URL, the error lists what the embedded Postgres lacks", async () => {
  const child = runInRoot(["serve"], { PORT: "0" });
  const output = await new Response(child.stderr).text();
  expect(await child.exited).toBe(1);
  expect(output).toMatch(/^This machine lacks .*\/bin\/sh.*: install it, or set DATABASE_URL to the address of/m);
});

test("with DATABASE_URL, users can register, send messages and read them", async () => {
  const port = await findFreePort();
  const child = runInRoot(["serve"], { PORT: String(port), DATABASE_URL: await server.createDatabase() });
  const url = `http://127.0.0.1:${port}`;
  try {
    await waitUntilReady(url, child);
    const { access_token } = await postJson(`${url}/api/v1/auth/register`, {
      email: "ada@example.com",
      password: "correct horse battery",
    });
    const { id } = await postJson(`${url}/api/v1/conversations`, { reply_mode: "never" }, access_token);
    await postJson(`${url}/api/v1/conversations/${id}/messages`, { content: "hello" }, access_token);
    const headers = { Authorization: `Bearer ${access_token}` };
    const list = await fetch(`${url}/api/v1/conversations/${id}/messages`, { headers });
    expect(await list.json()).toMatchObject({ data: [{ content: "hello", seq: 1 }] });
  } finally {
    // `unshare` ignores SIGTERM.
    child.kill("SIGKILL");
    await child.exited;
  }
});

async function waitUntilReady(url: string, child: Bun.Subprocess<"ignore", "pipe", "pipe">): Promise<void> {
  for (let attempts = 0; attempts < 300; attempts++) {
    if (child.exitCode !== null) throw new Error(await new Response(child.stderr).text());
    if ((await fetch(`${url}/readyz`).catch(() => null))?.ok) return;
    await Bun.sleep(100);
  }
  throw new Error("Not ready after 30 seconds.");
}

async function postJson(url: string, body: object, token?: string): Promise<Record<string, string>> {
  const response = await fetch(url, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) },
    body: JSON.stringify(body),
  });
  expect({ url, isCreated: response.ok }).toEqual({ url, isCreated: true });
  return (await response.json()) as Record<string, string>;
}
