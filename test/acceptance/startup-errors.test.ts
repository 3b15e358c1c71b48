import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInstallation, type Installation, TEST_TIMEOUT_MS } from "./installation.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

const installations: Installation[] = [];
afterEach(async () => {
  for (const installation of installations.splice(0)) await installation.remove();
});

async function openInstallation(...options: Parameters<typeof createInstallation>): Promise<Installation> {
  const installation = await createInstallation(...options);
  installations.push(installation);
  return installation;
}

/** Checks that each line is a sentence, without stack traces or objects. */
function expectPlainErrors(errors: string, count: number): void {
  const lines = errors.trim().split("\n");
  expect(lines).toHaveLength(count);
  for (const line of lines) expect(line).toMatch(/^[^{}]+\.$/);
  expect(errors).not.toMatch(/\bat .*:\d+:\d+|Error:/);
}

test("a second Parley with the same DATA_DIR doesn't start, and the first one keeps running", async () => {
  const installation = await openInstallation();
  const first = await installation.start();
  const { user, access_token } = await first.register();
  const { code, errors } = await installation.run([]);
  expect(code).toBe(1);
  expectPlainErrors(errors, 1);
  expect(errors).toContain(`process ${first.pid}`);
  expect(errors).toContain("DATA_DIR");
  const me = await first.fetch("/api/v1/me", { token: access_token });
  expect(await me.json()).toMatchObject({ id: user.id });
});

test("if its port is in use, Parley stops its embedded Postgres and exits", async () => {
  const first = await (await openInstallation()).start();
  const other = await openInstallation({ env: { PORT: new URL(first.url).port } });
  const { code, errors } = await other.run([]);
  expect(code).toBe(1);
  expectPlainErrors(errors, 1);
  expect(errors).toMatch(/^Port \d+ on .* is in use; .*set another PORT/);
  expect(other.findPostgresPid()).toBeNull();
  expect((await first.fetch("/readyz")).status).toBe(200);
  const restarted = await other.start({ env: { PORT: "0" } });
  expect((await restarted.stop()).code).toBe(0);
});

test("all configuration errors are listed", async () => {
  const installation = await openInstallation();
  const { code, errors } = await installation.run([], { PORT: "no-port", LOG_LEVEL: "loud", APP_ENV: "moon" });
  expect(code).toBe(2);
  expectPlainErrors(errors, 3);
  for (const name of ["PORT", "LOG_LEVEL", "APP_ENV"]) expect(errors).toContain(`${name}: `);
});

test("Parley doesn't start with an unusable DATA_DIR", async () => {
  const installation = await openInstallation();
  writeFileSync(join(installation.directory, "a-file"), "");
  const { code, errors } = await installation.run([], { DATA_DIR: "./a-file" });
  expect(code).toBe(1);
  expectPlainErrors(errors, 1);
  expect(errors).toContain("DATA_DIR");
});

test("an unprivileged user can run Parley in their own folder", async () => {
  const installation = await openInstallation({ user: { uid: 65534, gid: 65534 } });
  const first = await installation.start();
  const { user, access_token } = await first.register();
  await first.kill();
  const second = await installation.start();
  const me = await second.fetch("/api/v1/me", { token: access_token });
  expect(await me.json()).toMatchObject({ id: user.id });
  expect((await second.stop()).code).toBe(0);
  expect(installation.findPostgresPid()).toBeNull();
});

test("an unprivileged user without write permission gets an error", async () => {
  const installation = await openInstallation({ user: { uid: 65534, gid: 65534 } });
  mkdirSync(join(installation.directory, "closed"), { mode: 0o500 });
  const { code, errors } = await installation.run([], { DATA_DIR: "./closed/data" });
  expect(code).toBe(1);
  expectPlainErrors(errors, 1);
});
