import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInstallation, type Installation, TEST_TIMEOUT_MS } from "./installation.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

const installations: Installation[] = [];
afterEach(async () => {
  for (const installation of installations.splice(0)) await installation.remove();
});

async function createTestInstallation(...options: Parameters<typeof createInstallation>): Promise<Installation> {
  const installation = await createInstallation(...options);
  installations.push(installation);
  return installation;
}

/** Checks that standard error consists of this number of sentences, without stack traces or objects. */
function expectPlainErrors(stderr: string, count: number): void {
  const lines = stderr.trim().split("\n");
  expect(lines).toHaveLength(count);
  for (const line of lines) expect(line).toMatch(/^[^{}]+\.$/);
  expect(stderr).not.toMatch(/\bat .*:\d+:\d+|Error:/);
}

test("a second server with the same DATA_DIR doesn't start, and the first one keeps running", async () => {
  const installation = await createTestInstallation();
  const firstParley = await installation.start();
  const { user, access_token } = await firstParley.register();
  const { code, stderr } = await installation.run([]);
  expect(code).toBe(1);
  expectPlainErrors(stderr, 1);
  expect(stderr).toContain(`process ${firstParley.pid}`);
  expect(stderr).toContain("DATA_DIR");
  const profile = await firstParley.fetch("/api/v1/me", { token: access_token });
  expect(await profile.json()).toMatchObject({ id: user.id });
});

test("if its port is in use, Parley stops its embedded Postgres and exits", async () => {
  const firstParley = await (await createTestInstallation()).start();
  const otherInstallation = await createTestInstallation({ env: { PORT: new URL(firstParley.url).port } });
  const { code, stderr } = await otherInstallation.run([]);
  expect(code).toBe(1);
  expectPlainErrors(stderr, 1);
  expect(stderr).toMatch(/^Port \d+ on .* is in use; .*set a different PORT/);
  expect(otherInstallation.findPostgresPid()).toBeNull();
  expect((await firstParley.fetch("/readyz")).status).toBe(200);
  const otherParley = await otherInstallation.start({ env: { PORT: "0" } });
  expect((await otherParley.stop()).code).toBe(0);
});

test("all configuration errors are listed", async () => {
  const installation = await createTestInstallation();
  const { code, stderr } = await installation.run([], { PORT: "no-port", LOG_LEVEL: "loud", APP_ENV: "moon" });
  expect(code).toBe(2);
  expectPlainErrors(stderr, 3);
  for (const name of ["PORT", "LOG_LEVEL", "APP_ENV"]) expect(stderr).toContain(`${name}: `);
});

test("Parley doesn't start with an unusable DATA_DIR", async () => {
  const installation = await createTestInstallation();
  writeFileSync(join(installation.directory, "a-file"), "");
  const { code, stderr } = await installation.run([], { DATA_DIR: "./a-file" });
  expect(code).toBe(1);
  expectPlainErrors(stderr, 1);
  expect(stderr).toContain("DATA_DIR");
});

test("an unprivileged user can run Parley in their own folder", async () => {
  const installation = await createTestInstallation({ user: { uid: 65534, gid: 65534 } });
  const firstParley = await installation.start();
  const { user, access_token } = await firstParley.register();
  await firstParley.kill();
  const secondParley = await installation.start();
  const profile = await secondParley.fetch("/api/v1/me", { token: access_token });
  expect(await profile.json()).toMatchObject({ id: user.id });
  expect((await secondParley.stop()).code).toBe(0);
  expect(installation.findPostgresPid()).toBeNull();
});

test("Parley exits with an error if an unprivileged user can't write to DATA_DIR", async () => {
  const installation = await createTestInstallation({ user: { uid: 65534, gid: 65534 } });
  mkdirSync(join(installation.directory, "closed"), { mode: 0o500 });
  const { code, stderr } = await installation.run([], { DATA_DIR: "./closed/data" });
  expect(code).toBe(1);
  expectPlainErrors(stderr, 1);
});
