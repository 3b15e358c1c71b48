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
import { buildLaterVersion, laterVersion } from "../support/later-version.ts";
import { buildExecutable } from "./executable.ts";

setDefaultTimeout(180_000);

const folder = createFolder();
const program = join(folder.path, "bin/parley");
const port = findFreePort();
const env = { PATH: process.env.PATH ?? "", PORT: String(port), APP_ENV: "development", HOME: "/nonexistent" };
const client = createTestClient(`http://127.0.0.1:${port}`);
let currentExecutable: string;
let nextExecutable: string;

beforeAll(async () => {
  currentExecutable = await buildExecutable();
  const built = await buildLaterVersion();
  chmodSync(folder.path, 0o755);
  mkdirSync(join(folder.path, "bin"));
  copyFileSync(currentExecutable, program);
  chmodSync(program, 0o755);
  nextExecutable = join(folder.path, "next");
  copyFileSync(built, nextExecutable);
  writeFileSync(`${nextExecutable}.sha256`, `${await hash(nextExecutable)}  next\n`);
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

let serverProcess: Bun.Subprocess | undefined;
async function start(): Promise<void> {
  serverProcess = Bun.spawn([program, "serve"], { cwd: folder.path, env, stdio: ["ignore", "ignore", "ignore"] });
  await waitForStatus(`http://127.0.0.1:${port}/readyz`, 200);
}
async function stop(): Promise<void> {
  serverProcess?.kill("SIGTERM");
  await serverProcess?.exited;
  serverProcess = undefined;
}

const fetchRunningVersion = async () =>
  ((await (await client.fetch("/version")).json()) as { version: string }).version;
const readVersion = async (path: string) => (await run(path, "--version")).output.split(" ")[1];

let token: string;
let conversationId: string;
const send = async (content: string) =>
  (await client.fetch(`/api/v1/conversations/${conversationId}/messages`, { token, json: { content } })).status;
async function listTexts(): Promise<string[]> {
  const response = await client.fetch(`/api/v1/conversations/${conversationId}/messages`, { token });
  return ((await response.json()) as { data: { content: string }[] }).data.map(({ content }) => content).sort();
}

/** Returns the printed rollback commands, except those that stop and start the service. */
const parseRollbackCommands = (output: string): string[] =>
  (output.split(/^To roll back to .*:$/m)[1] ?? "")
    .split("\n")
    .filter((line) => /^ {2}(mv|\S*parley restore) /.test(line));

test("an upgrade creates a backup, keeps the old executable, and can be rolled back with the printed commands", async () => {
  await start();
  const account = await client.register();
  token = account.access_token;
  const created = await client.fetch("/api/v1/conversations", { token, json: { reply_mode: "never" } });
  conversationId = ((await created.json()) as { id: string }).id;
  expect(await send("before")).toBe(201);

  const upgraded = await run(program, "upgrade", nextExecutable);
  expect({ code: upgraded.code, errors: upgraded.errors }).toMatchObject({ code: 0 });
  expect(upgraded.output).toMatch(
    new RegExp(
      `^Upgraded ${program} from ${version} \\(.*\\) to ${laterVersion.version} \\(${laterVersion.commit}\\)\\.$`,
      "m",
    ),
  );
  expect(await readVersion(program)).toBe(laterVersion.version);
  expect(await readVersion(`${program}.previous`)).toBe(version);
  expect(readdirSync(join(folder.path, "bin")).sort()).toEqual(["parley", "parley.previous"]);
  const backup = /^Backup: (.*)$/m.exec(upgraded.output)?.[1] ?? "";
  expect(backup).toStartWith(join(folder.path, "data/backups/"));
  expect(statSync(backup).mode & 0o777).toBe(0o600);
  expect((await run(program, "verify", backup)).code).toBe(0);
  // The running server still has the old version.
  expect(await fetchRunningVersion()).toBe(version);
  expect(await send("between")).toBe(201);
  await stop();
  await start();
  expect(await fetchRunningVersion()).toBe(laterVersion.version);
  expect(await send("after")).toBe(201);
  expect(await listTexts()).toEqual(["after", "before", "between"]);

  // A downgrade is refused, even with --allow-older if the old version doesn't know the database's migrations.
  const checksum = await hash(currentExecutable);
  const older = await run(program, "upgrade", currentExecutable, "--sha256", checksum);
  expect(older).toMatchObject({ code: 1, output: "", errors: expect.stringContaining("which is older than this one") });
  const forced = await run(program, "upgrade", currentExecutable, "--sha256", checksum, "--allow-older");
  expect(forced).toMatchObject({ code: 1, output: "" });
  expect(forced.errors).toContain(`Parley ${version} doesn't know the database's migration ${laterVersion.migration}`);
  expect(await readVersion(program)).toBe(laterVersion.version);

  const commands = parseRollbackCommands(upgraded.output);
  expect(commands).toHaveLength(3);
  await stop();
  for (const command of commands) {
    const { code, errors } = await run("sh", "-c", command);
    expect({ command, code, errors }).toMatchObject({ command, code: 0 });
  }
  await start();
  expect(await fetchRunningVersion()).toBe(version);
  // Messages sent after the backup are lost.
  expect(await listTexts()).toEqual(["before"]);
  expect(await send("again")).toBe(201);
  await stop();
});

test("killing an upgrade at any time leaves a working executable", async () => {
  const versions = new Set<string | undefined>();
  const hashBefore = await hash(program);
  for (let delayMs = 100; delayMs <= 2_500; delayMs += 400) {
    const child = Bun.spawn([program, "upgrade", nextExecutable], {
      cwd: folder.path,
      env,
      stdio: ["ignore", "ignore", "ignore"],
    });
    await Bun.sleep(delayMs);
    child.kill("SIGKILL");
    await child.exited;
    const currentVersion = await readVersion(program);
    versions.add(currentVersion);
    expect([version, laterVersion.version]).toContain(currentVersion ?? "");
    if (existsSync(`${program}.previous`)) expect(await readVersion(`${program}.previous`)).toBe(version);
    if (currentVersion === laterVersion.version) copyFileSync(`${program}.previous`, program);
  }
  expect(versions).toContain(version);
  if ((await hash(program)) !== hashBefore) copyFileSync(currentExecutable, program);
});

test("if the server isn't running, an upgrade starts the embedded Postgres for the backup and stops it again", async () => {
  const upgraded = await run(program, "upgrade", nextExecutable, "--backup", join(folder.path, "own.backup"));
  expect({ code: upgraded.code, errors: upgraded.errors }).toMatchObject({ code: 0 });
  expect(upgraded.output).toContain(`Backup: ${join(folder.path, "own.backup")}\n`);
  expect(existsSync(join(folder.path, "data/postgres/postmaster.pid"))).toBe(false);
  expect(readdirSync(join(folder.path, "bin")).sort()).toEqual(["parley", "parley.previous"]);
  // The upgrade fails if the backup fails, in this case because its file already exists.
  copyFileSync(`${program}.previous`, program);
  const refused = await run(program, "upgrade", nextExecutable, "--backup", join(folder.path, "own.backup"));
  expect(refused).toMatchObject({ code: 1, output: "" });
  expect(refused.errors).toMatch(/`parley backup` failed \(exit code \d\), so nothing was replaced\.\n$/);
  expect(await readVersion(program)).toBe(version);
  expect(readFileSync(join(folder.path, "own.backup")).length).toBeGreaterThan(100);
});
