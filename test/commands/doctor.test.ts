import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { version } from "../../package.json";
import { getExecutableCopy } from "../acceptance/executable.ts";
import { createInstallation, type Installation, TEST_TIMEOUT_MS } from "../acceptance/installation.ts";
import { createCertificates } from "../support/certificates.ts";
import { runDoctor, TEST_SECRET } from "./run-doctor.ts";
import { createFolder, findFreePort, runParley } from "./run-parley.ts";

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

test("the doctor checks an embedded database in every state without changing it", async () => {
  const PORT = String(findFreePort());
  const installation = await createTestInstallation({ env: { PORT } });
  const runInstalledDoctor = () => runDoctor({ PORT }, { run: installation.run });

  const beforeStart = await runInstalledDoctor();
  expect(beforeStart.code).toBe(0);
  expect(beforeStart.listLines("port")).toEqual([`ok: Port ${PORT} on 0.0.0.0 is free; no Parley is running on it.`]);
  expect(beforeStart.listLines("database")[0]).toStartWith("skipped: No embedded database exists yet");
  expect(await readdir(installation.directory)).toEqual([]);

  const parley = await installation.start();
  const account = await parley.register();
  const running = await runInstalledDoctor();
  expect(running.listIssues("providers")).toEqual([]);
  expect(running.listLines("port")[0]).toMatch(
    new RegExp(`^ok: Parley ${version} .* is running on port ${PORT}, and is`),
  );
  expect(running.listLines("embedded postgres")[0]).toContain(`is running (process ${installation.findPostgresPid()})`);
  expect(running.listLines("database")[0]).toMatch(/^ok: PostgreSQL 18\.\d+ responds in /);
  expect(running.listLines("clock")).toEqual(["ok: The clock agrees with the database."]);
  expect(running.listLines("limits")[0]).toContain(`of the running process ${parley.pid}`);
  expect((await parley.fetch("/api/v1/me", { token: account.access_token })).status).toBe(200);

  await parley.stop();
  const filesBefore = await readdir(join(installation.directory, "data"));
  const stopped = await runInstalledDoctor();
  expect(stopped.listIssues("providers")).toEqual([]);
  expect(stopped.listLines("embedded postgres")[0]).toContain("is stopped");
  expect(stopped.listLines("database")[0]).toStartWith("skipped: The embedded Postgres is not running");
  expect(await readdir(join(installation.directory, "data"))).toEqual(filesBefore);
  expect(installation.findPostgresPid()).toBeNull();

  const restartedParley = await installation.start();
  process.kill(installation.findPostgresPid() ?? 0, "SIGKILL");
  await restartedParley.kill();
  const crashed = await runInstalledDoctor();
  expect(crashed.listLines("embedded postgres")[0]).toContain("the next start recovers");
  expect(crashed.code).toBe(0);
});

test("the doctor reports that a different program uses the port", async () => {
  using server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("not Parley") });
  const { code, listLines } = await runDoctor(
    { HOST: "127.0.0.1", PORT: String(server.port) },
    { args: ["--offline"] },
  );
  expect(code).toBe(1);
  expect(listLines("port")[0]).toMatch(
    /^problem: Port \d+ on .* is in use; .* No Parley responds on it, so the process is another program.*\.$/,
  );
});

test("the doctor reports configuration errors without secrets", async () => {
  const env = {
    LOG_LEVEL: "loud",
    APP_ENV: "production",
    JWT_SECRET: TEST_SECRET,
    HTTPS_PROXY: `socks5://u:${TEST_SECRET}@proxy`,
  };
  const { code, listLines, report } = await runDoctor(env);
  expect(code).toBe(1);
  const lines = listLines("configuration");
  for (const name of ["LOG_LEVEL", "JWT_SECRET", "HTTPS_PROXY"])
    expect(lines.filter((line) => line.startsWith(`problem: ${name}: `))).toHaveLength(1);
  expect(report.findings.filter(({ check }) => check !== "configuration").map(({ status }) => status)).not.toContain(
    "ok",
  );
});

test("the doctor reports contradictory settings as problems, and unused or unknown settings as warnings", async () => {
  const contradicting = await runDoctor({ OIDC_AUDIENCE: "app" }, { args: ["--offline"] });
  expect(contradicting.listLines("configuration")[0]).toMatch(/^problem: OIDC_/);
  const unusual = await runDoctor({ COMPATIBLE_API_KEY: TEST_SECRET, AI_MODLES: "x" }, { args: ["--offline"] });
  expect(unusual.code).toBe(0);
  const lines = unusual.listLines("configuration");
  expect(lines.filter((line) => /^warning: .*(COMPATIBLE_BASE_URL|AI_MODLES)/.test(line))).toHaveLength(2);
});

test("the doctor reports a certificate that has expired, expires soon, or doesn't match PUBLIC_URL or the key", async () => {
  const { create } = createCertificates();
  const listLinesFor = async (
    certificate: ReturnType<typeof create>,
    extraEnv: Record<string, string> = {},
    check = "certificate",
  ) => {
    const env = { TLS_CERT_FILE: certificate.certFile, TLS_KEY_FILE: certificate.keyFile, ...extraEnv };
    return (await runDoctor(env, { args: ["--offline"] })).listLines(check);
  };
  expect((await listLinesFor(create("localhost", { extensions: "local" })))[0]).toMatch(
    /^ok: DNS:localhost.*valid until/,
  );
  expect((await listLinesFor(create("localhost", { days: -1 })))[0]).toMatch(
    /^problem: The certificate expired on .*SIGHUP/,
  );
  expect((await listLinesFor(create("localhost", { days: 5 })))[0]).toMatch(
    /^warning: The certificate expires in [45] days/,
  );
  const withOtherName = await listLinesFor(create("localhost", { extensions: "local" }), {
    PUBLIC_URL: "https://chat.example.com",
  });
  expect(withOtherName[0]).toMatch(/^warning: .* not for chat\.example\.com of PUBLIC_URL/);
  const { keyFile } = create("localhost");
  const withOtherKey = await listLinesFor({ ...create("localhost"), keyFile }, {}, "configuration");
  expect(withOtherKey[0]).toMatch(/^problem: .* does not belong to the certificate/);
});

test("the doctor reports a low open-file limit", async () => {
  const command = `ulimit -n 64; exec "$0" doctor --json --offline`;
  const child = Bun.spawn(["sh", "-c", command, await getExecutableCopy()], {
    env: { PORT: "0" },
    cwd: "/tmp",
    stderr: "pipe",
  });
  const report = JSON.parse(await new Response(child.stdout).text()) as { findings: Record<string, string>[] };
  expect(await child.exited).toBe(1);
  const [limits] = report.findings.filter(({ check }) => check === "limits");
  expect(limits).toMatchObject({
    status: "problem",
    message: expect.stringMatching(/^The limit on open files is 64, .*LimitNOFILE=/),
  });
});

test.skipIf(process.getuid?.() !== 0)("the doctor reports a full disk", async () => {
  using folder = createFolder();
  const mounted = Bun.spawnSync(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder.path]);
  if (mounted.exitCode !== 0) return;
  try {
    writeFileSync(join(folder.path, "filler"), new Uint8Array(1_040_384));
    const { code, listLines } = await runDoctor({ DATA_DIR: folder.path }, { args: ["--offline"] });
    expect(code).toBe(1);
    expect(listLines("disk")[0]).toMatch(/^problem: The disk of DATA_DIR .* has .*B left; free some space/);
  } finally {
    Bun.spawnSync(["umount", folder.path]);
  }
});

test("the doctor reports an embedded database from a different PostgreSQL version, and missing permissions", async () => {
  const installation = await createTestInstallation({ user: { uid: 65534, gid: 65534 } });
  const clusterDir = join(installation.directory, "data/postgres");
  mkdirSync(clusterDir, { recursive: true, mode: 0o700 });
  writeFileSync(join(clusterDir, "PG_VERSION"), "16\n");
  chmodSync(join(installation.directory, "data"), 0o777);
  const withUnreadableCluster = await runDoctor({}, { run: installation.run, args: ["--offline"] });
  expect(withUnreadableCluster.listLines("embedded postgres")[0]).toMatch(/^problem: .* can't be read by user 65534/);
  chmodSync(clusterDir, 0o755);
  const withOldCluster = await runDoctor({}, { run: installation.run, args: ["--offline"] });
  expect(withOldCluster.listLines("embedded postgres")[0]).toMatch(/^problem: .* was created by PostgreSQL 16/);
  chmodSync(join(installation.directory, "data"), 0o500);
  const withClosedFolder = await runDoctor({}, { run: installation.run, args: ["--offline"] });
  expect(withClosedFolder.code).toBe(1);
  expect(withClosedFolder.listLines("embedded postgres")[0]).toMatch(
    /^problem: User 65534 can't use DATA_DIR .*run the doctor as that user/,
  );
  for (const check of ["database", "disk"])
    expect(withClosedFolder.listLines(check)[0]).toStartWith("skipped: DATA_DIR ");
});

test("the doctor prints a readable report by default, and rejects unknown options", async () => {
  using folder = createFolder();
  const env = { PORT: "0", METRICS_TOKEN: TEST_SECRET };
  const { code, stdout, stderr } = await runParley(["doctor", "--offline"], { cwd: folder.path, env });
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  const lines = stdout.trimEnd().split("\n");
  expect(lines[0]).toStartWith(`Parley ${version} (`);
  for (const line of lines.slice(2, -2)) expect(line).toMatch(/^(?:OK|WARNING|PROBLEM|SKIPPED) +[a-z ]+ {2,}\S.*\.$/);
  expect(lines.at(-1)).toMatch(/^0 problems, \d+ warnings?, \d+ OK, \d+ skipped \(\d+\.\d s\)\.$/);
  expect(stdout).not.toContain(TEST_SECRET);
  const withUnknownOption = await runParley(["doctor", "--fix"]);
  expect(withUnknownOption.code).toBe(2);
  expect(withUnknownOption.stderr).toBe(
    "`parley doctor` has no option --fix; `parley doctor --help` shows the usage.\n",
  );
});
