import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterTestRun } from "../support/after-test-run.ts";
import { createTestClient } from "../support/client.ts";
import { getExecutableCopy } from "./executable.ts";

/** A test timeout that is long enough to start servers on a busy machine. */
export const TEST_TIMEOUT_MS = 60_000;
const START_TIMEOUT_MS = 60_000;
const POSTGRES_EXIT_TIMEOUT_MS = 15_000;
const POLL_MS = 10;

const isRoot = process.getuid?.() === 0;

type Environment = Record<string, string>;
type Options = {
  env?: Environment;
  /** The user to run as. Ignored unless the tests run as root. */
  user?: { uid: number; gid: number };
};
type StartOptions = {
  env?: Environment;
  /** `listening` waits only until the port is open, even if the database isn't ready. The default is `ready`. */
  until?: "listening" | "ready";
  /** The network namespace to run in. `commandPrefix` starts a command in it, and Parley listens on `address`. */
  network?: { commandPrefix: string[]; address: string };
};
type Process = { child: Bun.Subprocess; readStdout(): string; readStderr(): string };

export type Installation = Awaited<ReturnType<typeof createInstallation>>;
export type Parley = Awaited<ReturnType<Installation["start"]>>;

/** Creates an empty folder in which a test starts, kills and restarts the executable. Each start uses a free port. */
export async function createInstallation({ env = {}, user }: Options = {}) {
  const executable = await getExecutableCopy();
  const home = mkdtempSync(join(tmpdir(), "parley-installation-"));
  const directory = join(home, "folder");
  chmodSync(home, 0o755);
  mkdirSync(directory);
  const userPrefix =
    isRoot && user ? ["setpriv", `--reuid=${user.uid}`, `--regid=${user.gid}`, "--clear-groups", "--"] : [];
  if (isRoot && user) chownSync(directory, user.uid, user.gid);
  // Parley must not inherit the tests' environment.
  const baseEnv: Environment = { PATH: process.env.PATH ?? "", HOME: "/nonexistent", PORT: "0", ...env };
  const processes: Process[] = [];
  // Cleans up if a test fails before it calls `remove`.
  afterTestRun(remove);

  /** Kills all processes and removes the folder. */
  async function remove(): Promise<void> {
    for (const { child } of processes) child.kill("SIGKILL");
    await Promise.all(processes.map(({ child }) => child.exited));
    await waitUntilPostgresExits(directory);
    rmSync(home, { recursive: true, force: true });
  }

  function spawn(args: string[], extraEnv: Environment, wrapper: string[] = []): Process {
    const stdoutFile = join(home, `${processes.length}.out`);
    const stderrFile = join(home, `${processes.length}.err`);
    const [stdoutDescriptor, stderrDescriptor] = [openSync(stdoutFile, "a"), openSync(stderrFile, "a")];
    const child = Bun.spawn([...wrapper, ...userPrefix, executable, ...args], {
      cwd: directory,
      env: { ...baseEnv, ...extraEnv },
      stdio: ["ignore", stdoutDescriptor, stderrDescriptor],
    });
    closeSync(stdoutDescriptor);
    closeSync(stderrDescriptor);
    const process: Process = {
      child,
      readStdout: () => readFileSync(stdoutFile, "utf8"),
      readStderr: () => readFileSync(stderrFile, "utf8"),
    };
    processes.push(process);
    return process;
  }

  return {
    directory,

    /** Returns the standard output and standard error of all processes. */
    readLog: (): string => processes.map((process) => process.readStdout() + process.readStderr()).join(""),

    /** Starts the server. @throws Error if the server exits, or isn't ready before the timeout. */
    async start({ env: extraEnv = {}, until = "ready", network }: StartOptions = {}) {
      const { child, readStdout, readStderr } = spawn([], extraEnv, network?.commandPrefix);
      const readLog = () => readStdout() + readStderr();
      const deadlineMs = performance.now() + START_TIMEOUT_MS;
      async function pollUntilDefined<T>(read: () => Promise<T | undefined> | T | undefined): Promise<T> {
        for (;;) {
          const value = await read();
          if (value !== undefined) return value;
          if (child.exitCode !== null) throw new Error(`Parley exited with ${child.exitCode}: ${readLog()}`);
          if (performance.now() > deadlineMs) throw new Error(`Parley did not start in time: ${readLog()}`);
          await Bun.sleep(POLL_MS);
        }
      }
      const port = await pollUntilDefined(() => /"?address"?: ?"[^"]*:(\d+)"/.exec(readLog())?.[1]);
      const url = `http://${network?.address ?? "127.0.0.1"}:${port}`;
      const isReady = async () => ((await fetch(`${url}/readyz`)).status === 200 ? true : undefined);
      if (until === "ready") await pollUntilDefined(isReady);

      return {
        ...createTestClient(url),
        pid: child.pid,
        exited: child.exited,
        readLog,
        waitUntilReady: () => pollUntilDefined(isReady),

        /** Kills the process, as a power failure would. */
        async kill(): Promise<void> {
          child.kill("SIGKILL");
          await child.exited;
        },

        /** Stops the process with a signal. Returns the exit code and the duration. */
        async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<{ code: number; durationMs: number }> {
          const startedAtMs = performance.now();
          child.kill(signal);
          return { code: await child.exited, durationMs: performance.now() - startedAtMs };
        },
      };
    },

    /** Runs a command until it exits. */
    async run(args: string[], extraEnv: Environment = {}): Promise<{ code: number; stdout: string; stderr: string }> {
      const { child, readStdout, readStderr } = spawn(args, extraEnv);
      return { code: await child.exited, stdout: readStdout(), stderr: readStderr() };
    },

    /** Returns the embedded Postgres' PID from its PID file, or null if there is none. */
    findPostgresPid: (): number | null => findPostgresPid(directory),

    remove,
  };
}

function findPostgresPid(directory: string): number | null {
  try {
    return Number(readFileSync(join(directory, "data/postgres/postmaster.pid"), "utf8").split("\n")[0]);
  } catch {
    return null;
  }
}

/** Waits for Postgres, which exits after Parley and can write to the folder until it exits. */
async function waitUntilPostgresExits(directory: string): Promise<void> {
  const pid = findPostgresPid(directory);
  const deadlineMs = performance.now() + POSTGRES_EXIT_TIMEOUT_MS;
  while (pid !== null && existsSync(`/proc/${pid}`) && findPostgresPid(directory) === pid) {
    if (performance.now() > deadlineMs) throw new Error(`The embedded Postgres ${pid} is still running.`);
    await Bun.sleep(POLL_MS);
  }
}
