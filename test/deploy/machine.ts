import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterTestRun } from "../support/after-test-run.ts";

const repositoryDir = resolve(import.meta.dir, "../..");
const debianTemplate = join(repositoryDir, "dist/debian");
const BOOT_TIMEOUT_MS = 60_000;
const HALT_TIMEOUT_MS = 30_000;
/** SIGRTMIN+3, which makes systemd halt the machine. */
const HALT_SIGNAL = 37;

type CommandResult = { code: number; stdout: string; stderr: string };
export type Machine = {
  /** The machine's root directory, as a path on the host. */
  directory: string;
  run(...command: string[]): Promise<CommandResult>;
  /** Runs a command. @returns its standard output. @throws Error if it fails. */
  mustRun(...command: string[]): Promise<string>;
  remove(): Promise<void>;
};

/** Copies a clean Debian to a new folder. @returns the new folder `home`, and the system's root `directory` in it. */
export async function createRootDirectory(): Promise<{ home: string; directory: string }> {
  if (!existsSync(debianTemplate))
    await runOrThrow(
      Bun.spawn([join(repositoryDir, "scripts/debian-root.sh"), debianTemplate], {
        stdio: ["ignore", "ignore", "pipe"],
      }),
    );
  const home = mkdtempSync(join(tmpdir(), "parley-machine-"));
  const directory = join(home, "root");
  // node:fs doesn't copy owners.
  await runOrThrow(
    Bun.spawn(["cp", "--archive", "--reflink=auto", debianTemplate, directory], {
      stdio: ["ignore", "ignore", "pipe"],
    }),
  );
  return { home, directory };
}

/**
 * Boots a clean Debian with systemd-nspawn, on the host's network. Requires root.
 * @param folders maps each read-only mount point in the machine to a path on the host.
 */
export async function startMachine(folders: Record<string, string>): Promise<Machine> {
  const { home, directory } = await createRootDirectory();
  const binds = Object.entries(folders).map(([name, path]) => `--bind-ro=${path}:${name}`);
  const name = home.slice(home.lastIndexOf("/") + 1);
  const container = Bun.spawn(
    [
      "systemd-nspawn",
      "--quiet",
      `--directory=${directory}`,
      `--machine=${name}`,
      "--keep-unit",
      "--register=no",
      ...binds,
      "--boot",
    ],
    { stdin: "ignore", stdout: Bun.file(join(home, "console")), stderr: Bun.file(join(home, "stderr")) },
  );
  const readConsole = () => readFileSync(join(home, "console"), "utf8") + readFileSync(join(home, "stderr"), "utf8");
  let isRemoved = false;

  async function remove(): Promise<void> {
    if (isRemoved) return;
    isRemoved = true;
    const initPid = findInit(container.pid);
    if (initPid !== null) process.kill(initPid, HALT_SIGNAL);
    const hasExited = await Promise.race([
      container.exited.then(() => true),
      Bun.sleep(HALT_TIMEOUT_MS).then(() => false),
    ]);
    if (!hasExited) container.kill("SIGKILL");
    await container.exited;
    rmSync(home, { recursive: true, force: true });
  }
  afterTestRun(remove);

  async function run(...command: string[]): Promise<CommandResult> {
    const child = Bun.spawn(["nsenter", `--target=${findInit(container.pid)}`, "--all", "--", ...command], {
      env: { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", HOME: "/root", LC_ALL: "C" },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
    return { code: await child.exited, stdout, stderr };
  }

  const deadlineMs = performance.now() + BOOT_TIMEOUT_MS;
  for (;;) {
    if (container.exitCode !== null) throw new Error(`The machine didn't boot: ${readConsole()}`);
    const state = findInit(container.pid) === null ? "" : (await run("systemctl", "is-system-running")).stdout.trim();
    if (state === "running" || state === "degraded") break;
    if (performance.now() > deadlineMs) throw new Error(`The machine is ${state || "not running"}: ${readConsole()}`);
    await Bun.sleep(200);
  }
  return {
    directory,
    run,
    async mustRun(...command) {
      const { code, stdout, stderr } = await run(...command);
      if (code !== 0) throw new Error(`${command.join(" ")} (${code}): ${stdout}${stderr}`);
      return stdout;
    },
    remove,
  };
}

/** Finds the PID of the container's systemd, which is a child of systemd-nspawn. */
function findInit(containerPid: number): number | null {
  for (const name of readdirSync("/proc").filter((name) => /^\d+$/.test(name)))
    try {
      const [before = "", after = ""] = readFileSync(`/proc/${name}/stat`, "utf8").split(") ");
      if (Number(after.split(" ")[1]) === containerPid && before.endsWith("(systemd")) return Number(name);
    } catch {
      // The process has exited.
    }
  return null;
}

async function runOrThrow(child: Bun.Subprocess<"ignore", "ignore", "pipe">): Promise<void> {
  const stderr = await new Response(child.stderr).text();
  if ((await child.exited) !== 0) throw new Error(stderr);
}
