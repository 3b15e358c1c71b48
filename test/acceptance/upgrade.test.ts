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
  const laterExecutable = await buildLaterVersion();
  chmodSync(folder.path, 0o755);
  mkdirSync(join(folder.path, "bin"));
  copyFileSync(currentExecutable, program);
  chmodSync(program, 0o755);
  nextExecutable = join(folder.path, "next");
  copyFileSync(laterExecutable, nextExecutable);
  writeFileSync(`${nextExecutable}.sha256`, `${await hashFile(nextExecutable)}  next\n`);
});
afterAll(async () => {
  await stopServer();
  folder[Symbol.dispose]();
});

async function hashFile(path: string): Promise<string> {
  return new Bun.CryptoHasher("sha256").update(await Bun.file(path).bytes()).digest("hex");
}

async function runCommand(...command: string[]) {
  const child = Bun.spawn(command, { cwd: folder.path, env, stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, stdout, stderr };
}

let serverProcess: Bun.Subprocess | undefined;
async function startServer(): Promise<void> {
  serverProcess = Bun.spawn([program, "serve"], { cwd: folder.path, env, stdio: ["ignore", "ignore", "ignore"] });
  await waitForStatus(`http://127.0.0.1:${port}/readyz`, 200);
}
async function stopServer(): Promise<void> {
  serverProcess?.kill("SIGTERM");
  await serverProcess?.exited;
  serverProcess = undefined;
}

const fetchRunningVersion = async () =>
  ((await (await client.fetch("/version")).json()) as { version: string }).version;
const readVersion = async (path: string) => (await runCommand(path, "--version")).stdout.split(" ")[1];

let token: string;
let conversationId: string;
const sendMessage = async (content: string) =>
  (await client.fetch(`/api/v1/conversations/${conversationId}/messages`, { token, json: { content } })).status;
async function listContents(): Promise<string[]> {
  const response = await client.fetch(`/api/v1/conversations/${conversationId}/messages`, { token });
  return ((await response.json()) as { data: { content: string }[] }).data.map(({ content }) => content).sort();
}

/** Returns the printed rollback commands, except those that stop and start the service. */
const parseRollbackCommands = (stdout: string): string[] =>
  (stdout.split(/^To roll back to .*:$/m)[1] ?? "")
    .split("\n")
    .filter((line) => /^ {2}(mv|\S*parley restore) /.test(line));

test("an upgrade creates a backup, keeps the old executable, and can be rolled back with the printed commands", async () => {
  await startServer();
  const account = await client.register();
  token = account.access_token;
  const conversationResponse = await client.fetch("/api/v1/conversations", { token, json: { reply_mode: "never" } });
  conversationId = ((await conversationResponse.json()) as { id: string }).id;
  expect(await sendMessage("before")).toBe(201);

  const upgraded = await runCommand(program, "upgrade", nextExecutable);
  expect({ code: upgraded.code, stderr: upgraded.stderr }).toMatchObject({ code: 0 });
  expect(upgraded.stdout).toMatch(
    new RegExp(
      `^Upgraded ${program} from ${version} \\(.*\\) to ${laterVersion.version} \\(${laterVersion.commit}\\)\\.$`,
      "m",
    ),
  );
  expect(await readVersion(program)).toBe(laterVersion.version);
  expect(await readVersion(`${program}.previous`)).toBe(version);
  expect(readdirSync(join(folder.path, "bin")).sort()).toEqual(["parley", "parley.previous"]);
  const backup = /^Backup: (.*)$/m.exec(upgraded.stdout)?.[1] ?? "";
  expect(backup).toStartWith(join(folder.path, "data/backups/"));
  expect(statSync(backup).mode & 0o777).toBe(0o600);
  expect((await runCommand(program, "verify", backup)).code).toBe(0);
  // The running server still has the old version.
  expect(await fetchRunningVersion()).toBe(version);
  expect(await sendMessage("between")).toBe(201);
  await stopServer();
  await startServer();
  expect(await fetchRunningVersion()).toBe(laterVersion.version);
  expect(await sendMessage("after")).toBe(201);
  expect(await listContents()).toEqual(["after", "before", "between"]);

  // A downgrade is rejected. With --allow-older, it is still rejected if the old version doesn't know all migrations.
  const checksum = await hashFile(currentExecutable);
  const downgrade = await runCommand(program, "upgrade", currentExecutable, "--sha256", checksum);
  expect(downgrade).toMatchObject({
    code: 1,
    stdout: "",
    stderr: expect.stringContaining("which is older than this one"),
  });
  const forcedDowngrade = await runCommand(
    program,
    "upgrade",
    currentExecutable,
    "--sha256",
    checksum,
    "--allow-older",
  );
  expect(forcedDowngrade).toMatchObject({ code: 1, stdout: "" });
  expect(forcedDowngrade.stderr).toContain(
    `Parley ${version} doesn't know the database's migration ${laterVersion.migration}`,
  );
  expect(await readVersion(program)).toBe(laterVersion.version);

  const commands = parseRollbackCommands(upgraded.stdout);
  expect(commands).toHaveLength(3);
  await stopServer();
  for (const command of commands) {
    const { code, stderr } = await runCommand("sh", "-c", command);
    expect({ command, code, stderr }).toMatchObject({ command, code: 0 });
  }
  await startServer();
  expect(await fetchRunningVersion()).toBe(version);
  // Messages sent after the backup are lost.
  expect(await listContents()).toEqual(["before"]);
  expect(await sendMessage("again")).toBe(201);
  await stopServer();
});

test("killing an upgrade at any time leaves a working executable", async () => {
  const versions = new Set<string | undefined>();
  const hashBefore = await hashFile(program);
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
  if ((await hashFile(program)) !== hashBefore) copyFileSync(currentExecutable, program);
});

test("if the server isn't running, an upgrade starts the embedded Postgres for the backup and stops it again", async () => {
  const upgraded = await runCommand(program, "upgrade", nextExecutable, "--backup", join(folder.path, "custom.backup"));
  expect({ code: upgraded.code, stderr: upgraded.stderr }).toMatchObject({ code: 0 });
  expect(upgraded.stdout).toContain(`Backup: ${join(folder.path, "custom.backup")}\n`);
  expect(existsSync(join(folder.path, "data/postgres/postmaster.pid"))).toBe(false);
  expect(readdirSync(join(folder.path, "bin")).sort()).toEqual(["parley", "parley.previous"]);
  // The upgrade fails if the backup fails, in this case because its file already exists.
  copyFileSync(`${program}.previous`, program);
  const failedUpgrade = await runCommand(
    program,
    "upgrade",
    nextExecutable,
    "--backup",
    join(folder.path, "custom.backup"),
  );
  expect(failedUpgrade).toMatchObject({ code: 1, stdout: "" });
  expect(failedUpgrade.stderr).toMatch(/`parley backup` failed \(exit code \d\), so nothing was replaced\.\n$/);
  expect(await readVersion(program)).toBe(version);
  expect(readFileSync(join(folder.path, "custom.backup")).length).toBeGreaterThan(100);
});
