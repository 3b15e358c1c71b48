import { expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { settings } from "../../src/config/settings.ts";
import { createFolder } from "../commands/run-parley.ts";

const deployFolder = resolve(import.meta.dir, "../../deploy");
const unit = readFileSync(join(deployFolder, "parley.service"), "utf8");

/** The maximum acceptable exposure level, on a scale from 0 (safest) to 10. The unit scored 1.4 with systemd 252. */
const EXPOSURE_MAX = 1.5;

async function runCommand(...command: string[]) {
  const child = Bun.spawn(command, {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin`, LC_ALL: "C" },
  });
  const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, stdout, stderr };
}

/** Finds the last value of a setting in the unit. */
const findValue = (name: string): string | undefined =>
  [...unit.matchAll(new RegExp(`^${name}=(.*)$`, "gm"))].at(-1)?.[1];

test("`systemd-analyze verify` reports no problems in the unit", async () => {
  using folder = createFolder();
  const path = join(folder.path, "parley.service");
  // systemd-analyze checks that the program exists, and Parley isn't installed on this machine.
  writeFileSync(path, unit.replace("ExecStart=/usr/local/bin/parley", "ExecStart=/bin/sh"));
  expect(await runCommand("systemd-analyze", "verify", "--man=no", path)).toEqual({ code: 0, stdout: "", stderr: "" });
  writeFileSync(path, `${unit}\n[Service]\nNoSuchSetting=yes\n`);
  expect((await runCommand("systemd-analyze", "verify", "--man=no", path)).stderr).toContain("NoSuchSetting");
});

test("`systemd-analyze security` reports a low exposure level", async () => {
  const { stdout } = await runCommand(
    "systemd-analyze",
    "security",
    "--offline=yes",
    "--no-pager",
    join(deployFolder, "parley.service"),
  );
  const exposure = Number(/Overall exposure level for parley\.service: ([\d.]+)/.exec(stdout)?.[1]);
  expect(exposure).toBeGreaterThan(0);
  expect(exposure).toBeLessThanOrEqual(EXPOSURE_MAX);
});

test("systemd's stop timeout is longer than Parley's shutdown timeout", () => {
  const shutdownMs = settings.properties.SHUTDOWN_TIMEOUT_MS.default;
  expect(Number(findValue("TimeoutStopSec")) * 1_000).toBeGreaterThan(shutdownMs + 30_000);
  expect(findValue("KillMode")).toBe("mixed");
});

test("shellcheck reports no problems in the installation scripts", async () => {
  const result = await runCommand("shellcheck", join(deployFolder, "install.sh"), join(deployFolder, "parley-run"));
  expect(result).toEqual({ code: 0, stdout: "", stderr: "" });
});

test("logrotate rotates the log with the example configuration", async () => {
  using folder = createFolder();
  const config = join(folder.path, "parley");
  const log = join(folder.path, "parley.log");
  writeFileSync(log, "a line\n");
  writeFileSync(
    config,
    readFileSync(join(deployFolder, "parley.logrotate"), "utf8").replace("/var/log/parley/parley.log", log),
    {
      mode: 0o644,
    },
  );
  const rotationResult = await runCommand("logrotate", "--force", "--state", join(folder.path, "state"), config);
  expect(rotationResult).toEqual({ code: 0, stdout: "", stderr: "" });
  expect(readFileSync(`${log}.1`, "utf8")).toBe("a line\n");
  expect(readFileSync(log, "utf8")).toBe("");
});

test("install.sh rejects invalid arguments", async () => {
  const installScript = join(deployFolder, "install.sh");
  const invalidUsages: [string[], string][] = [
    [["--fly"], "There is no option --fly."],
    [["--port", "0"], "--port 0 is not a number from 1 to 65535."],
    [["--port", "http"], "--port http is not a number from 1 to 65535."],
    [["--port", "65536"], "--port 65536 is not a number from 1 to 65535."],
    [["--sha256", "abc"], "--sha256 is 64 hexadecimal digits."],
    [["--sha256"], "--sha256 needs a value."],
    [["a", "b"], "Only one executable can be installed."],
  ];
  for (const [args, message] of invalidUsages)
    expect(await runCommand(installScript, ...args)).toEqual({
      code: 2,
      stdout: "",
      stderr: `install.sh: ${message} \`install.sh --help\` shows the options.\n`,
    });
  expect(await runCommand(installScript, "--help")).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/^Usage: install\.sh/),
  });
});
