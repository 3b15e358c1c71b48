import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { version } from "../../package.json";
import { createFolder, findFreePort, waitForStatus } from "../commands/run-parley.ts";
import { createTestClient } from "../support/client.ts";
import { buildLaterVersion, later } from "../support/second-build.ts";
import { buildExecutable } from "./executable.ts";

setDefaultTimeout(180_000);

const folder = createFolder();
const program = join(folder.path, "bin/parley");
const port = findFreePort();
const env = { PATH: process.env.PATH ?? "", PORT: String(port), APP_ENV: "development", HOME: "/nonexistent" };
const client = createTestClient(`http://127.0.0.1:${port}`);
let present: string;
let next: string;

beforeAll(async () => {
  present = await buildExecutable();
  const built = await buildLaterVersion();
  chmodSync(folder.path, 0o755);
  mkdirSync(join(folder.path, "bin"));
  copyFileSync(present, program);
  chmodSync(program, 0o755);
  next = join(folder.path, "next");
  copyFileSync(built, next);
  writeFileSync(`${next}.sha256`, `${await hash(next)}  next\n`);
});
afterAll(async () => {
  await stop();
  folder[Symbol.dispose]();
});

async function hash(path: string): Promise<string> {
  return new Bun.CryptoHasher("sha256").update(await Bun.file(path).bytes()).digest("hex");
}

async function run(...command: string[]) {
  const child = Bun.spawn(command, { cwd: folder.path, env, stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const [output, errors] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, output, errors };
}

let serving: Bun.Subprocess | undefined;
async function start(): Promise<void> {
  serving = Bun.spawn([program, "serve"], { cwd: folder.path, env, stdio: ["ignore", "ignore", "ignore"] });
  await waitForStatus(`http://127.0.0.1:${port}/readyz`, 200);
}
async function stop(): Promise<void> {
  serving?.kill("SIGTERM");
  await serving?.exited;
  serving = undefined;
}

const runningVersion = async () => ((await (await client.fetch("/version")).json()) as { version: string }).version;
const versionOf = async (path: string) => (await run(path, "--version")).output.split(" ")[1];

let token: string;
let conversationId: string;
const send = async (content: string) =>
  (await client.fetch(`/api/v1/conversations/${conversationId}/messages`, { token, json: { content } })).status;
async function listTexts(): Promise<string[]> {
  const response = await client.fetch(`/api/v1/conversations/${conversationId}/messages`, { token });
  return ((await response.json()) as { data: { content: string }[] }).data.map(({ content }) => content).sort();
}

/** The commands below "To roll back", as typed by a user who stops and starts the server by hand. */
const readRollback = (output: string): string[] =>
  (output.split(/^To roll back to .*:$/m)[1] ?? "")
    .split("\n")
    .filter((line) => /^ {2}(mv|\S*parley restore) /.test(line));

test("an upgrade next to a running server makes a backup, keeps the old executable, and can be undone as printed", async () => {
  await start();
  const account = await client.register();
  token = account.access_token;
  const created = await client.fetch("/api/v1/conversations", { token, json: { reply_mode: "never" } });
  conversationId = ((await created.json()) as { id: string }).id;
  expect(await send("before")).toBe(201);

  const upgraded = await run(program, "upgrade", next);
  expect({ code: upgraded.code, errors: upgraded.errors }).toMatchObject({ code: 0 });
  expect(upgraded.output).toMatch(
    new RegExp(`^Upgraded ${program} from ${version} \\(.*\\) to ${later.version} \\(${later.commit}\\)\\.$`, "m"),
  );
  expect(await versionOf(program)).toBe(later.version);
  expect(await versionOf(`${program}.previous`)).toBe(version);
  expect(readdirSync(join(folder.path, "bin")).sort()).toEqual(["parley", "parley.previous"]);
  const backup = /^Backup: (.*)$/m.exec(upgraded.output)?.[1] ?? "";
  expect(backup).toStartWith(join(folder.path, "data/backups/"));
  expect(statSync(backup).mode & 0o777).toBe(0o600);
  expect((await run(program, "verify", backup)).code).toBe(0);
  // The running server stays unchanged until it is restarted.
  expect(await runningVersion()).toBe(version);
  expect(await send("between")).toBe(201);
  await stop();
  await start();
  expect(await runningVersion()).toBe(later.version);
  expect(await send("after")).toBe(201);
  expect(await listTexts()).toEqual(["after", "before", "between"]);

  // An older version is refused, and so is one that doesn't know the database's migrations.
  const sum = await hash(present);
  const older = await run(program, "upgrade", present, "--sha256", sum);
  expect(older).toMatchObject({ code: 1, output: "", errors: expect.stringContaining("which is older than this one") });
  const forced = await run(program, "upgrade", present, "--sha256", sum, "--allow-older");
  expect(forced).toMatchObject({ code: 1, output: "" });
  expect(forced.errors).toContain(`Parley ${version} doesn't know the database's migration ${later.migration}`);
  expect(await versionOf(program)).toBe(later.version);

  const commands = readRollback(upgraded.output);
  expect(commands).toHaveLength(3);
  await stop();
  for (const command of commands) {
    const { code, errors } = await run("sh", "-c", command);
    expect({ command, code, errors }).toMatchObject({ command, code: 0 });
  }
  await start();
  expect(await runningVersion()).toBe(version);
  // Messages stored after the backup aren't in it.
  expect(await listTexts()).toEqual(["before"]);
  expect(await send("again")).toBe(201);
  await stop();
});

test("a kill at any moment of an upgrade leaves an intact executable", async () => {
  const versions = new Set<string | undefined>();
  const before = await hash(program);
  for (let delayMs = 100; delayMs <= 2_500; delayMs += 400) {
    const child = Bun.spawn([program, "upgrade", next], {
      cwd: folder.path,
      env,
      stdio: ["ignore", "ignore", "ignore"],
    });
    await Bun.sleep(delayMs);
    child.kill("SIGKILL");
    await child.exited;
    const now = await versionOf(program);
    versions.add(now);
    expect([version, later.version]).toContain(now ?? "");
    if (existsSync(`${program}.previous`)) expect(await versionOf(`${program}.previous`)).toBe(version);
    if (now === later.version) copyFileSync(`${program}.previous`, program);
  }
  expect(versions).toContain(version);
  if ((await hash(program)) !== before) copyFileSync(present, program);
});

test("with the server stopped, the embedded Postgres is started for the backup and stopped again", async () => {
  const upgraded = await run(program, "upgrade", next, "--backup", join(folder.path, "own.backup"));
  expect({ code: upgraded.code, errors: upgraded.errors }).toMatchObject({ code: 0 });
  expect(upgraded.output).toContain(`Backup: ${join(folder.path, "own.backup")}\n`);
  expect(existsSync(join(folder.path, "data/postgres/postmaster.pid"))).toBe(false);
  expect(readdirSync(join(folder.path, "bin")).sort()).toEqual(["parley", "parley.previous"]);
  // The upgrade fails if the backup can't be made: here, the file already exists.
  copyFileSync(`${program}.previous`, program);
  const refused = await run(program, "upgrade", next, "--backup", join(folder.path, "own.backup"));
  expect(refused).toMatchObject({ code: 1, output: "" });
  expect(refused.errors).toMatch(/`parley backup` failed \(exit code \d\), so nothing was replaced\.\n$/);
  expect(await versionOf(program)).toBe(version);
  expect(readFileSync(join(folder.path, "own.backup")).length).toBeGreaterThan(100);
});
