import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { atEndOfRun } from "../support/end-of-run.ts";

const root = resolve(import.meta.dir, "../..");
const base = join(root, "dist/debian");
const BOOT_TIMEOUT_MS = 60_000;
const END_TIMEOUT_MS = 30_000;
/** SIGRTMIN+3: systemd halts in order. */
const HALT_SIGNAL = 37;

type Result = { code: number; output: string; errors: string };
export type Machine = {
  /** The file system, as seen from here. */
  directory: string;
  run(...command: string[]): Promise<Result>;
  /** @throws Error if it fails. @returns what it prints. */
  mustRun(...command: string[]): Promise<string>;
  remove(): Promise<void>;
};

/** A copy of a clean Debian, in a folder of its own. */
export async function createRoot(): Promise<{ home: string; directory: string }> {
  if (!existsSync(base))
    await must(Bun.spawn([join(root, "scripts/debian-root.sh"), base], { stdio: ["ignore", "ignore", "pipe"] }));
  const home = mkdtempSync(join(tmpdir(), "parley-machine-"));
  const directory = join(home, "root");
  // With owners, which node:fs doesn't copy.
  await must(
    Bun.spawn(["cp", "--archive", "--reflink=auto", base, directory], { stdio: ["ignore", "ignore", "pipe"] }),
  );
  return { home, directory };
}

/**
 * Boots a clean Debian with a systemd of its own (systemd-nspawn), which has the network of this machine. Needs root.
 * @param folders are there under the names that are given, read-only.
 */
export async function startMachine(folders: Record<string, string>): Promise<Machine> {
  const { home, directory } = await createRoot();
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
    { stdin: "ignore", stdout: Bun.file(join(home, "console")), stderr: Bun.file(join(home, "errors")) },
  );
  const readConsole = () => readFileSync(join(home, "console"), "utf8") + readFileSync(join(home, "errors"), "utf8");
  let isRemoved = false;

  async function remove(): Promise<void> {
    if (isRemoved) return;
    isRemoved = true;
    // The container follows, or is ended.
    const init = findInit(container.pid);
    if (init !== null) process.kill(init, HALT_SIGNAL);
    const isGone = await Promise.race([container.exited.then(() => true), Bun.sleep(END_TIMEOUT_MS).then(() => false)]);
    if (!isGone) container.kill("SIGKILL");
    await container.exited;
    rmSync(home, { recursive: true, force: true });
  }
  atEndOfRun(remove);

  async function run(...command: string[]): Promise<Result> {
    const child = Bun.spawn(["nsenter", `--target=${findInit(container.pid)}`, "--all", "--", ...command], {
      env: { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", HOME: "/root", LC_ALL: "C" },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const [output, errors] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
    return { code: await child.exited, output, errors };
  }

  const deadlineMs = performance.now() + BOOT_TIMEOUT_MS;
  for (;;) {
    if (container.exitCode !== null) throw new Error(`The machine doesn't boot: ${readConsole()}`);
    const state = findInit(container.pid) === null ? "" : (await run("systemctl", "is-system-running")).output.trim();
    if (state === "running" || state === "degraded") break;
    if (performance.now() > deadlineMs) throw new Error(`The machine is ${state || "not there"}: ${readConsole()}`);
    await Bun.sleep(200);
  }
  return {
    directory,
    run,
    async mustRun(...command) {
      const { code, output, errors } = await run(...command);
      if (code !== 0) throw new Error(`${command.join(" ")} (${code}): ${output}${errors}`);
      return output;
    },
    remove,
  };
}

/** The first process of the container: the child of systemd-nspawn, once it is systemd. */
function findInit(containerPid: number): number | null {
  for (const name of readdirSync("/proc").filter((name) => /^\d+$/.test(name)))
    try {
      const [before = "", after = ""] = readFileSync(`/proc/${name}/stat`, "utf8").split(") ");
      if (Number(after.split(" ")[1]) === containerPid && before.endsWith("(systemd")) return Number(name);
    } catch {
      // It has ended meanwhile.
    }
  return null;
}

async function must(child: Bun.Subprocess<"ignore", "ignore", "pipe">): Promise<void> {
  const said = await new Response(child.stderr).text();
  if ((await child.exited) !== 0) throw new Error(said);
}
