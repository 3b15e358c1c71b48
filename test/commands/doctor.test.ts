import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { version } from "../../package.json";
import { findExecutable } from "../acceptance/executable.ts";
import { createSite, type Site, TEST_TIMEOUT_MS } from "../acceptance/site.ts";
import { createCertificates } from "../support/certificates.ts";
import { MARK, runDoctor } from "./run-doctor.ts";
import { createFolder, findFreePort, runParley } from "./run-parley.ts";

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

test("an embedded database: nothing yet, running, stopped, and after a crash; nothing is changed", async () => {
  const PORT = String(findFreePort());
  const site = await openSite({ env: { PORT } });
  const doctor = () => runDoctor({ PORT }, { run: site.run });

  const fresh = await doctor();
  expect(fresh.code).toBe(0);
  expect(fresh.linesOf("port")).toEqual([`ok: Port ${PORT} on 0.0.0.0 is free; no Parley is running on it.`]);
  expect(fresh.linesOf("database")[0]).toStartWith("skipped: No embedded database exists yet");
  expect(await readdir(site.directory)).toEqual([]);

  const parley = await site.start();
  const account = await parley.register();
  const running = await doctor();
  expect(running.listTroubles("providers")).toEqual([]);
  expect(running.linesOf("port")[0]).toMatch(
    new RegExp(`^ok: Parley ${version} .* is running on port ${PORT}, and is`),
  );
  expect(running.linesOf("embedded postgres")[0]).toContain(`is running (process ${site.findPostgres()})`);
  expect(running.linesOf("database")[0]).toMatch(/^ok: PostgreSQL 18\.\d+ responds in /);
  expect(running.linesOf("clock")).toEqual(["ok: The clock agrees with the database."]);
  expect(running.linesOf("limits")[0]).toContain(`of the running process ${parley.pid}`);
  expect((await parley.fetch("/api/v1/me", { token: account.access_token })).status).toBe(200);

  await parley.stop();
  const before = await readdir(join(site.directory, "data"));
  const stopped = await doctor();
  expect(stopped.listTroubles("providers")).toEqual([]);
  expect(stopped.linesOf("embedded postgres")[0]).toContain("is stopped");
  expect(stopped.linesOf("database")[0]).toStartWith("skipped: The embedded Postgres is not running");
  expect(await readdir(join(site.directory, "data"))).toEqual(before);
  expect(site.findPostgres()).toBeNull();

  const again = await site.start();
  process.kill(site.findPostgres() ?? 0, "SIGKILL");
  await again.kill();
  const crashed = await doctor();
  expect(crashed.linesOf("embedded postgres")[0]).toContain("the next start recovers");
  expect(crashed.code).toBe(0);
});

test("another program on the port", async () => {
  using server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("not Parley") });
  const { code, linesOf } = await runDoctor({ HOST: "127.0.0.1", PORT: String(server.port) }, { args: ["--offline"] });
  expect(code).toBe(1);
  expect(linesOf("port")[0]).toMatch(
    /^problem: Port \d+ on .* is in use; .* No Parley responds there: it is another program.*\.$/,
  );
});

test("errors of the configuration, without their secrets", async () => {
  const env = { LOG_LEVEL: "loud", APP_ENV: "production", JWT_SECRET: MARK, HTTPS_PROXY: `socks5://u:${MARK}@proxy` };
  const { code, linesOf, report } = await runDoctor(env);
  expect(code).toBe(1);
  const lines = linesOf("configuration");
  for (const name of ["LOG_LEVEL", "JWT_SECRET", "HTTPS_PROXY"])
    expect(lines.filter((line) => line.startsWith(`problem: ${name}: `))).toHaveLength(1);
  expect(report.findings.filter(({ check }) => check !== "configuration").map(({ status }) => status)).not.toContain(
    "ok",
  );
});

test("contradicting settings are problems, unusual ones are warnings", async () => {
  const contradicting = await runDoctor({ OIDC_AUDIENCE: "app" }, { args: ["--offline"] });
  expect(contradicting.linesOf("configuration")[0]).toMatch(/^problem: OIDC_/);
  const unusual = await runDoctor({ COMPATIBLE_API_KEY: MARK, AI_MODLES: "x" }, { args: ["--offline"] });
  expect(unusual.code).toBe(0);
  const lines = unusual.linesOf("configuration");
  expect(lines.filter((line) => /^warning: .*(COMPATIBLE_BASE_URL|AI_MODLES)/.test(line))).toHaveLength(2);
});

test("a certificate that has expired, that expires soon, or for another name", async () => {
  const { create } = createCertificates();
  const find = async (
    certificate: ReturnType<typeof create>,
    more: Record<string, string> = {},
    check = "certificate",
  ) => {
    const env = { TLS_CERT_FILE: certificate.certFile, TLS_KEY_FILE: certificate.keyFile, ...more };
    return (await runDoctor(env, { args: ["--offline"] })).linesOf(check);
  };
  expect((await find(create("localhost", { extensions: "local" })))[0]).toMatch(/^ok: DNS:localhost.*valid until/);
  expect((await find(create("localhost", { days: -1 })))[0]).toMatch(/^problem: The certificate expired on .*SIGHUP/);
  expect((await find(create("localhost", { days: 5 })))[0]).toMatch(/^warning: The certificate expires in [45] days/);
  const other = await find(create("localhost", { extensions: "local" }), { PUBLIC_URL: "https://chat.example.com" });
  expect(other[0]).toMatch(/^warning: .* not for chat\.example\.com of PUBLIC_URL/);
  const [one, two] = [create("localhost"), create("localhost")];
  const mixed = await find({ ...one, keyFile: two.keyFile }, {}, "configuration");
  expect(mixed[0]).toMatch(/^problem: .* does not belong to the certificate/);
});

test("a low limit of open files", async () => {
  const command = `ulimit -n 64; exec "$0" doctor --json --offline`;
  const child = Bun.spawn(["sh", "-c", command, await findExecutable()], {
    env: { PORT: "0" },
    cwd: "/tmp",
    stderr: "pipe",
  });
  const report = JSON.parse(await new Response(child.stdout).text()) as { findings: Record<string, string>[] };
  expect(await child.exited).toBe(1);
  const [limits] = report.findings.filter(({ check }) => check === "limits");
  expect(limits).toMatchObject({ status: "problem", message: expect.stringMatching(/^Only 64 files .*LimitNOFILE=/) });
});

test.skipIf(process.getuid?.() !== 0)("a full disk, and a folder of another user", async () => {
  using folder = createFolder();
  const mounted = Bun.spawnSync(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder.path]);
  if (mounted.exitCode !== 0) return;
  try {
    writeFileSync(join(folder.path, "filler"), new Uint8Array(1_040_384));
    const { code, linesOf } = await runDoctor({ DATA_DIR: folder.path }, { args: ["--offline"] });
    expect(code).toBe(1);
    expect(linesOf("disk")[0]).toMatch(/^problem: The disk of DATA_DIR .* has .*B left; free some space/);
  } finally {
    Bun.spawnSync(["umount", folder.path]);
  }
});

test("an embedded database of another version, and a data folder that can't be used", async () => {
  const site = await openSite({ user: { uid: 65534, gid: 65534 } });
  const clusterDir = join(site.directory, "data/postgres");
  mkdirSync(clusterDir, { recursive: true, mode: 0o700 });
  writeFileSync(join(clusterDir, "PG_VERSION"), "16\n");
  chmodSync(join(site.directory, "data"), 0o777);
  const denied = await runDoctor({}, { run: site.run, args: ["--offline"] });
  expect(denied.linesOf("embedded postgres")[0]).toMatch(/^problem: .* can't be read by user 65534/);
  chmodSync(clusterDir, 0o755);
  const old = await runDoctor({}, { run: site.run, args: ["--offline"] });
  expect(old.linesOf("embedded postgres")[0]).toMatch(/^problem: .* was created by PostgreSQL 16/);
  chmodSync(join(site.directory, "data"), 0o500);
  const closed = await runDoctor({}, { run: site.run, args: ["--offline"] });
  expect(closed.code).toBe(1);
  expect(closed.linesOf("embedded postgres")[0]).toMatch(
    /^problem: User 65534 can't use DATA_DIR .*run the doctor as that user/,
  );
  for (const check of ["database", "disk"]) expect(closed.linesOf(check)[0]).toStartWith("skipped: DATA_DIR ");
});

test("the report for people, and wrong usage", async () => {
  using folder = createFolder();
  const env = { PORT: "0", METRICS_TOKEN: MARK };
  const { code, stdout, stderr } = await runParley(["doctor", "--offline"], { cwd: folder.path, env });
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  const lines = stdout.trimEnd().split("\n");
  expect(lines[0]).toStartWith(`Parley ${version} (`);
  for (const line of lines.slice(2, -2)) expect(line).toMatch(/^(?:OK|WARNING|PROBLEM|SKIPPED) +[a-z ]+ {2,}\S.*\.$/);
  expect(lines.at(-1)).toMatch(/^0 problems, \d+ warnings?, \d+ OK, \d+ skipped \(\d+\.\d s\)\.$/);
  expect(stdout).not.toContain(MARK);
  const wrong = await runParley(["doctor", "--fix"]);
  expect(wrong.code).toBe(2);
  expect(wrong.stderr).toBe("`parley doctor` has no option --fix; `parley doctor --help` shows the usage.\n");
});
