import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createSite, type Site, TEST_TIMEOUT_MS } from "./site.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

const sites: Site[] = [];
afterEach(async () => {
  for (const site of sites.splice(0)) await site.remove();
});

async function openSite(...options: Parameters<typeof createSite>): Promise<Site> {
  const site = await createSite(...options);
  sites.push(site);
  return site;
}

/** Expects plain sentences, without stack traces or objects. */
function expectSentences(errors: string, count: number): void {
  const lines = errors.trim().split("\n");
  expect(lines).toHaveLength(count);
  for (const line of lines) expect(line).toMatch(/^[^{}]+\.$/);
  expect(errors).not.toMatch(/\bat .*:\d+:\d+|Error:/);
}

test("refuses a second Parley on the same DATA_DIR, and the first one keeps running", async () => {
  const site = await openSite();
  const first = await site.start();
  const { user, access_token } = await first.register();
  const { code, errors } = await site.run([]);
  expect(code).toBe(1);
  expectSentences(errors, 1);
  expect(errors).toContain(`process ${first.pid}`);
  expect(errors).toContain("DATA_DIR");
  const me = await first.fetch("/api/v1/me", { token: access_token });
  expect(await me.json()).toMatchObject({ id: user.id });
});

test("refuses a port in use, and leaves nothing behind", async () => {
  const first = await (await openSite()).start();
  const other = await openSite({ env: { PORT: new URL(first.url).port } });
  const { code, errors } = await other.run([]);
  expect(code).toBe(1);
  expectSentences(errors, 1);
  expect(errors).toMatch(/^Port \d+ on .* is in use; .*set another PORT/);
  expect(other.findPostgres()).toBeNull();
  expect((await first.fetch("/readyz")).status).toBe(200);
  const again = await other.start({ env: { PORT: "0" } });
  expect((await again.stop()).code).toBe(0);
});

test("lists every error of the configuration at once", async () => {
  const site = await openSite();
  const { code, errors } = await site.run([], { PORT: "no-port", LOG_LEVEL: "loud", APP_ENV: "moon" });
  expect(code).toBe(2);
  expectSentences(errors, 3);
  for (const name of ["PORT", "LOG_LEVEL", "APP_ENV"]) expect(errors).toContain(`${name}: `);
});

test("refuses an unusable DATA_DIR", async () => {
  const site = await openSite();
  writeFileSync(join(site.directory, "a-file"), "");
  const { code, errors } = await site.run([], { DATA_DIR: "./a-file" });
  expect(code).toBe(1);
  expectSentences(errors, 1);
  expect(errors).toContain("DATA_DIR");
});

test("an unprivileged user can run everything in their own folder", async () => {
  const site = await openSite({ user: { uid: 65534, gid: 65534 } });
  const first = await site.start();
  const { user, access_token } = await first.register();
  await first.kill();
  const second = await site.start();
  const me = await second.fetch("/api/v1/me", { token: access_token });
  expect(await me.json()).toMatchObject({ id: user.id });
  expect((await second.stop()).code).toBe(0);
  expect(site.findPostgres()).toBeNull();
});

test("an unprivileged user without write permission gets an error", async () => {
  const site = await openSite({ user: { uid: 65534, gid: 65534 } });
  mkdirSync(join(site.directory, "closed"), { mode: 0o500 });
  const { code, errors } = await site.run([], { DATA_DIR: "./closed/data" });
  expect(code).toBe(1);
  expectSentences(errors, 1);
});
