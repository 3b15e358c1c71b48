import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { version } from "../../package.json";
import { buildExecutable } from "../acceptance/executable.ts";
import { createFolder, findFreePort } from "../commands/run-parley.ts";
import { createTestClient, TEST_PASSWORD } from "../support/client.ts";
import { buildLaterVersion, laterVersion } from "../support/later-version.ts";
import { waitUntil } from "../support/wait-until.ts";
import { createRootDirectory, type Machine, startMachine } from "./machine.ts";

setDefaultTimeout(300_000);

/** Only root can boot a container. */
const isRoot = process.getuid?.() === 0;
const testAsRoot = test.if(isRoot);

const START_TIMEOUT_MS = 60_000;
const port = findFreePort();
const client = createTestClient(`http://127.0.0.1:${port}`);
const builds = createFolder();
const currentExecutable = "/builds/parley-current";
let machine: Machine;
let laterChecksum: string;
/** The server from which the later version is downloaded. */
let releaseServer: ReturnType<typeof Bun.serve>;

beforeAll(async () => {
  if (!isRoot) return;
  const paths = { current: await buildExecutable(), later: await buildLaterVersion() };
  for (const [name, path] of Object.entries(paths)) copyFileSync(path, join(builds.path, `parley-${name}`));
  writeFileSync(`${join(builds.path, "parley-current")}.sha256`, `${await hashFile(paths.current)}  parley-current\n`);
  laterChecksum = await hashFile(paths.later);
  const fileName = `parley-${laterVersion.version}-linux-${process.arch}`;
  releaseServer = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    idleTimeout: 120,
    fetch: ({ url }) =>
      new URL(url).pathname === `/v${laterVersion.version}/${fileName}`
        ? new Response(Bun.file(paths.later))
        : new Response("not found", { status: 404 }),
  });
  machine = await startMachine({ "/deploy": resolve(import.meta.dir, "../../deploy"), "/builds": builds.path });
});
afterAll(async () => {
  await machine?.remove();
  await releaseServer?.stop(true);
  builds[Symbol.dispose]();
});

async function hashFile(path: string): Promise<string> {
  return new Bun.CryptoHasher("sha256").update(await Bun.file(path).bytes()).digest("hex");
}

const runInstallScript = (...args: string[]) => machine.run("/deploy/install.sh", ...args);
const getServiceProperty = async (property: string) =>
  (await machine.mustRun("systemctl", "show", `--property=${property}`, "--value", "parley")).trim();
const getRunningVersion = async () => ((await (await client.fetch("/version")).json()) as { version: string }).version;

/** Returns the host's path of a path in the machine. */
const toHostPath = (path: string) => join(machine.directory, path);
function writeDropIn(name: string, content: string): void {
  mkdirSync(toHostPath("etc/systemd/system/parley.service.d"), { recursive: true });
  writeFileSync(toHostPath(`etc/systemd/system/parley.service.d/${name}.conf`), content);
}
const removeDropIn = (name: string) => rmSync(toHostPath(`etc/systemd/system/parley.service.d/${name}.conf`));

let token: string;
let conversationId: string;
const sendMessage = async (content: string) =>
  (await client.fetch(`/api/v1/conversations/${conversationId}/messages`, { token, json: { content } })).status;
async function listMessageTexts(): Promise<string[]> {
  const response = await client.fetch(`/api/v1/conversations/${conversationId}/messages`, { token });
  return ((await response.json()) as { data: { content: string }[] }).data.map(({ content }) => content).sort();
}
async function waitForRestart(pidBefore: string): Promise<void> {
  await waitUntil(async () => {
    const isNewProcess =
      (await getServiceProperty("MainPID")) !== pidBefore && (await getServiceProperty("ActiveState")) === "active";
    return isNewProcess && (await client.fetch("/readyz").catch(() => null))?.status === 200;
  }, START_TIMEOUT_MS);
}

testAsRoot("install.sh rejects an invalid executable or a port in use without installing anything", async () => {
  const expectFailure = async (args: string[], message: RegExp) => {
    const result = await runInstallScript(...args);
    expect({ args, code: result.code, stderr: result.stderr }).toEqual({
      args,
      code: 1,
      stderr: expect.stringMatching(message),
    });
  };
  await expectFailure(["/builds/nothing"], /there is no file \/builds\/nothing\./);
  await expectFailure(
    ["/builds/parley-later"],
    /there is no checksum for \/builds\/parley-later.*--sha256 [0-9a-f]{64}\./,
  );
  await expectFailure(["--sha256", "0".repeat(64), currentExecutable], /is damaged or was tampered with/);
  await expectFailure(
    ["--sha256", await hashFile(toHostPath("bin/true")), "/bin/true"],
    /is not Parley|doesn't run on this machine/,
  );
  await expectFailure(
    ["--port", String(releaseServer.port), currentExecutable],
    new RegExp(`port ${releaseServer.port} is in use`),
  );
  const busSocket = "/run/dbus/system_bus_socket";
  await machine.mustRun("mv", busSocket, `${busSocket}.away`);
  await expectFailure([currentExecutable], /D-Bus is missing .*apt-get install dbus/);
  await machine.mustRun("mv", `${busSocket}.away`, busSocket);
  for (const path of ["usr/local/bin/parley", "etc/parley", "var/lib/parley", "etc/systemd/system/parley.service"])
    expect({ path, exists: existsSync(toHostPath(path)) }).toEqual({ path, exists: false });
  const dryRun = await runInstallScript("--dry-run", "--port", String(port), currentExecutable);
  expect(dryRun).toMatchObject({
    code: 0,
    stderr: "",
    stdout: expect.stringContaining("+ systemctl enable --quiet parley"),
  });
  expect(existsSync(toHostPath("usr/local/bin/parley"))).toBe(false);
});

testAsRoot("Parley installed on a clean Debian runs in its sandbox and serves requests", async () => {
  const installResult = await runInstallScript("--port", String(port), currentExecutable);
  expect({ code: installResult.code, stderr: installResult.stderr }).toEqual({ code: 0, stderr: "" });
  expect(installResult.stdout).toContain(`Installed parley ${version} (`);
  expect((await client.fetch("/readyz")).status).toBe(200);
  expect(await getServiceProperty("User")).toBe("parley");
  const status = await readProcessStatus();
  expect(status).toMatch(/^NoNewPrivs:\t1$/m);
  expect(status).toMatch(/^Seccomp:\t2$/m);
  expect(status).toMatch(/^CapEff:\t0{16}$/m);
  expect(
    await machine.mustRun(
      "stat",
      "--format=%a %U:%G",
      "/etc/parley/parley.env",
      "/var/lib/parley",
      "/usr/local/bin/parley",
    ),
  ).toBe("640 root:parley\n700 parley:parley\n755 root:root\n");
  expect(await machine.run("systemd-analyze", "verify", "parley.service")).toEqual({ code: 0, stdout: "", stderr: "" });

  // Registration is closed in production.
  await machine.mustRun("parley-run", "admin", "create", "--email", "ada@example.com", "--password", TEST_PASSWORD);
  const login = await client.fetch("/api/v1/auth/login", {
    json: { email: "ada@example.com", password: TEST_PASSWORD },
  });
  token = ((await login.json()) as { access_token: string }).access_token;
  const creationResponse = await client.fetch("/api/v1/conversations", { token, json: { reply_mode: "never" } });
  conversationId = ((await creationResponse.json()) as { id: string }).id;
  expect(await sendMessage("first")).toBe(201);
  expect((await machine.run("parley-run", "healthcheck")).code).toBe(0);
});

/** Reads the kernel's status of Parley's process. */
async function readProcessStatus(): Promise<string> {
  return await machine.mustRun("cat", `/proc/${await getServiceProperty("MainPID")}/status`);
}

testAsRoot("running install.sh again changes nothing", async () => {
  const previousState = {
    pid: await getServiceProperty("MainPID"),
    env: readFileSync(toHostPath("etc/parley/parley.env"), "utf8"),
  };
  const secondRun = await runInstallScript("--port", "4000", currentExecutable);
  expect({ code: secondRun.code, stderr: secondRun.stderr }).toEqual({ code: 0, stderr: "" });
  expect(secondRun.stdout).toContain("is already installed.");
  expect(secondRun.stdout).toContain("parley.env exists and stays as it is; change PORT there.");
  expect({
    pid: await getServiceProperty("MainPID"),
    env: readFileSync(toHostPath("etc/parley/parley.env"), "utf8"),
  }).toEqual(previousState);
  expect(existsSync(toHostPath("usr/local/bin/parley.previous"))).toBe(false);
});

testAsRoot(
  "systemd restarts Parley after a crash and, with the watchdog, after a hang, but not on a reload",
  async () => {
    const pid = await getServiceProperty("MainPID");
    await machine.mustRun("systemctl", "reload", "parley");
    expect(await getServiceProperty("MainPID")).toBe(pid);
    await machine.mustRun("systemctl", "kill", "--signal=KILL", "--kill-who=main", "parley");
    await waitForRestart(pid);
    expect(await listMessageTexts()).toEqual(["first"]);

    writeDropIn("watchdog", "[Service]\nWatchdogSec=2\nTimeoutAbortSec=2\n");
    await machine.mustRun("systemctl", "daemon-reload");
    await machine.mustRun("systemctl", "restart", "parley");
    const pidBeforeHang = await getServiceProperty("MainPID");
    await Bun.sleep(4_000);
    expect(await getServiceProperty("MainPID")).toBe(pidBeforeHang);
    await machine.mustRun("systemctl", "kill", "--signal=STOP", "--kill-who=main", "parley");
    await waitForRestart(pidBeforeHang);
    expect(await listMessageTexts()).toEqual(["first"]);
    removeDropIn("watchdog");
    await machine.mustRun("systemctl", "daemon-reload");
  },
);

testAsRoot("with an invalid setting, Parley logs the error and isn't restarted", async () => {
  const env = readFileSync(toHostPath("etc/parley/parley.env"), "utf8");
  writeFileSync(toHostPath("etc/parley/parley.env"), `${env}\nLOG_LEVEL=loud\n`);
  expect((await machine.run("systemctl", "restart", "parley")).code).not.toBe(0);
  await Bun.sleep(1_000);
  expect(await getServiceProperty("ActiveState")).toBe("failed");
  expect(await machine.mustRun("journalctl", "--unit=parley", "--lines=20", "--output=cat", "--no-pager")).toContain(
    "LOG_LEVEL",
  );
  writeFileSync(toHostPath("etc/parley/parley.env"), env);
  await machine.mustRun("systemctl", "restart", "parley");
});

testAsRoot("a log file can be rotated while Parley writes to it", async () => {
  await machine.mustRun("install", "-d", "-m", "0750", "/var/log/parley");
  writeDropIn("log-to-file", readFileSync(join(import.meta.dir, "../../deploy/log-to-file.conf"), "utf8"));
  await machine.mustRun("install", "-m", "0644", "/deploy/parley.logrotate", "/etc/logrotate.d/parley");
  await machine.mustRun("systemctl", "daemon-reload");
  await machine.mustRun("systemctl", "restart", "parley");
  const log = toHostPath("var/log/parley/parley.log");
  await waitUntil(() => readFileSync(log, "utf8").includes("is ready"), 5_000);
  await machine.mustRun("logrotate", "--force", "/etc/logrotate.conf");
  expect(readFileSync(`${log}.1`, "utf8")).toContain("is ready");
  expect(statSync(log).size).toBe(0);
  await machine.mustRun("systemctl", "reload", "parley");
  await waitUntil(() => readFileSync(log, "utf8").startsWith("{"), 5_000);
  removeDropIn("log-to-file");
  await machine.mustRun("systemctl", "daemon-reload");
  await machine.mustRun("systemctl", "restart", "parley");
});

testAsRoot(
  "an upgrade creates a backup, restarts Parley and keeps the data, and the printed rollback commands work",
  async () => {
    const upgradeResult = await runInstallScript(
      "--releases",
      `http://127.0.0.1:${releaseServer.port}`,
      "--sha256",
      laterChecksum,
      laterVersion.version,
    );
    expect({ code: upgradeResult.code, stderr: upgradeResult.stderr }).toMatchObject({ code: 0 });
    expect(upgradeResult.stdout).toContain(`Upgraded from parley ${version} (`);
    expect(await getRunningVersion()).toBe(laterVersion.version);
    expect(await listMessageTexts()).toEqual(["first"]);
    expect(await sendMessage("second")).toBe(201);
    const backup = /^Backup: (.*)$/m.exec(upgradeResult.stdout)?.[1] ?? "";
    expect(await machine.mustRun("stat", "--format=%a %U", backup)).toBe("600 parley\n");
    // The service couldn't write to a file that belongs to root.
    expect(await machine.mustRun("find", "/var/lib/parley", "!", "-user", "parley")).toBe("");

    const commands = (upgradeResult.stdout.split(/^To roll back to .*:$/m)[1] ?? "")
      .split("\n")
      .filter((line) => line.startsWith("  ") && !line.includes("#"));
    expect(commands.map((line) => line.trim().split(" ")[0])).toEqual([
      "systemctl",
      "mv",
      "mv",
      "parley-run",
      "systemctl",
    ]);
    for (const command of commands) await machine.mustRun("sh", "-c", command);
    expect(await getRunningVersion()).toBe(version);
    expect(await listMessageTexts()).toEqual(["first"]);
  },
);

testAsRoot("if the new version doesn't become ready, the script fails and prints how to roll back", async () => {
  writeDropIn("broken", "[Service]\nExecStartPre=/bin/false\n");
  const upgradeResult = await runInstallScript("--sha256", laterChecksum, "/builds/parley-later");
  expect(upgradeResult.code).toBe(1);
  expect(upgradeResult.stderr).toContain("install.sh: Parley isn't ready.");
  const commands = (upgradeResult.stderr.split(/^To roll back to .*:$/m)[1] ?? "")
    .split("\n")
    .filter((line) => line.startsWith("  ") && !line.includes("#"));
  expect(commands).toHaveLength(5);
  removeDropIn("broken");
  await machine.mustRun("systemctl", "daemon-reload");
  for (const command of commands)
    await machine.mustRun("sh", "-c", command.replace("postgres.after-upgrade", "postgres.after-second-upgrade"));
  expect(await getRunningVersion()).toBe(version);
  expect(await listMessageTexts()).toEqual(["first"]);
});

testAsRoot("--uninstall keeps data and settings, and a new installation uses them", async () => {
  const uninstallResult = await runInstallScript("--uninstall");
  expect({ code: uninstallResult.code, stderr: uninstallResult.stderr }).toEqual({ code: 0, stderr: "" });
  expect((await machine.run("systemctl", "cat", "parley")).code).not.toBe(0);
  for (const path of ["usr/local/bin/parley", "usr/local/bin/parley.previous", "usr/local/sbin/parley-run"])
    expect({ path, exists: existsSync(toHostPath(path)) }).toEqual({ path, exists: false });
  expect(existsSync(toHostPath("etc/parley/parley.env"))).toBe(true);
  expect((await runInstallScript(currentExecutable)).code).toBe(0);
  expect(await listMessageTexts()).toEqual(["first"]);
});

testAsRoot("without a running systemd, as in an image build, Parley is installed but not started", async () => {
  const { home, directory } = await createRootDirectory();
  cpSync(resolve(import.meta.dir, "../../deploy"), join(directory, "deploy"), { recursive: true });
  copyFileSync(join(builds.path, "parley-current"), join(directory, "parley"));
  const runInRoot = async (...command: string[]) => {
    const prefix = [
      "unshare",
      "--mount",
      "--pid",
      "--fork",
      `--mount-proc=${join(directory, "proc")}`,
      "chroot",
      directory,
    ];
    const child = Bun.spawn([...prefix, ...command], {
      env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", HOME: "/root" },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
    return { code: await child.exited, stdout, stderr };
  };
  const checksum = await hashFile(join(directory, "parley"));
  const installResult = await runInRoot("/deploy/install.sh", "--sha256", checksum, "/parley");
  expect(installResult).toMatchObject({
    code: 0,
    stderr: "",
    stdout: expect.stringContaining("systemd isn't running here"),
  });
  expect(existsSync(join(directory, "etc/systemd/system/parley.service"))).toBe(true);
  expect((await runInRoot("systemctl", "is-enabled", "parley")).stdout).toBe("enabled\n");
  const env = readFileSync(join(directory, "etc/parley/parley.env"), "utf8");
  expect(env).toMatch(/^JWT_SECRET=[0-9a-f]{64}$/m);
  expect(env).toMatch(/^APP_ENV=production$/m);
  // An upgrade of an instance with data requires a backup, which can't be made without systemd.
  mkdirSync(join(directory, "var/lib/parley/postgres"));
  copyFileSync(join(builds.path, "parley-later"), join(directory, "parley-later"));
  const upgradeResult = await runInRoot("/deploy/install.sh", "--sha256", laterChecksum, "/parley-later");
  expect(upgradeResult).toMatchObject({ code: 1, stderr: expect.stringContaining("no backup can be made") });
  rmSync(home, { recursive: true, force: true });
});
