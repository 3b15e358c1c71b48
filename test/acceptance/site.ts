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
import { createTestClient } from "../support/client.ts";
import { atEndOfRun } from "../support/end-of-run.ts";
import { findExecutable } from "./executable.ts";

/** Allows for server starts on a busy machine; far above a test's normal time. */
export const TEST_TIMEOUT_MS = 60_000;
const START_TIMEOUT_MS = 60_000;
const POSTGRES_EXIT_TIMEOUT_MS = 15_000;
const POLL_MS = 10;

const isRoot = process.getuid?.() === 0;

type Environment = Record<string, string>;
type Options = {
  env?: Environment;
  /** The user to run as, if the tests run as root; otherwise ignored. */
  user?: { uid: number; gid: number };
};
type StartOptions = {
  env?: Environment;
  /** `listening` returns once the port is open, possibly before the database is ready. */
  until?: "listening" | "ready";
  /** Another network to run in: the command prefix, and the address there. */
  network?: { inside: string[]; address: string };
};
type Process = { child: Bun.Subprocess; readOutput(): string; readErrors(): string };

export type Site = Awaited<ReturnType<typeof createSite>>;
export type Parley = Awaited<ReturnType<Site["start"]>>;

/** A new folder in which the executable is started, killed and restarted, each time on a free port. */
export async function createSite({ env = {}, user }: Options = {}) {
  const executable = await findExecutable();
  const home = mkdtempSync(join(tmpdir(), "parley-site-"));
  const directory = join(home, "folder");
  chmodSync(home, 0o755);
  mkdirSync(directory);
  const prefix =
    isRoot && user ? ["setpriv", `--reuid=${user.uid}`, `--regid=${user.gid}`, "--clear-groups", "--"] : [];
  if (isRoot && user) chownSync(directory, user.uid, user.gid);
  // The environment of the tests must not leak in.
  const base: Environment = { PATH: process.env.PATH ?? "", HOME: "/nonexistent", PORT: "0", ...env };
  const processes: Process[] = [];
  // Also cleans up if a test ends early.
  atEndOfRun(remove);

  /** Ends all processes, and removes the folder. */
  async function remove(): Promise<void> {
    for (const { child } of processes) child.kill("SIGKILL");
    await Promise.all(processes.map(({ child }) => child.exited));
    await waitUntilPostgresExits(directory);
    rmSync(home, { recursive: true, force: true });
  }

  function spawn(args: string[], more: Environment, wrapper: string[] = []): Process {
    const outputFile = join(home, `${processes.length}.out`);
    const errorFile = join(home, `${processes.length}.err`);
    const [output, errors] = [openSync(outputFile, "a"), openSync(errorFile, "a")];
    const child = Bun.spawn([...wrapper, ...prefix, executable, ...args], {
      cwd: directory,
      env: { ...base, ...more },
      stdio: ["ignore", output, errors],
    });
    closeSync(output);
    closeSync(errors);
    const process: Process = {
      child,
      readOutput: () => readFileSync(outputFile, "utf8"),
      readErrors: () => readFileSync(errorFile, "utf8"),
    };
    processes.push(process);
    return process;
  }

  return {
    directory,

    /** The output of all processes so far. */
    readLog: (): string => processes.map((process) => process.readOutput() + process.readErrors()).join(""),

    /** Starts the server. @throws if it exits, or isn't ready in time. */
    async start({ env: more = {}, until = "ready", network }: StartOptions = {}) {
      const { child, readOutput, readErrors } = spawn([], more, network?.inside);
      const readLog = () => readOutput() + readErrors();
      const deadlineMs = performance.now() + START_TIMEOUT_MS;
      async function waitFor<T>(read: () => Promise<T | undefined> | T | undefined): Promise<T> {
        for (;;) {
          const value = await read();
          if (value !== undefined) return value;
          if (child.exitCode !== null) throw new Error(`Parley exited with ${child.exitCode}: ${readLog()}`);
          if (performance.now() > deadlineMs) throw new Error(`Parley did not start in time: ${readLog()}`);
          await Bun.sleep(POLL_MS);
        }
      }
      const port = await waitFor(() => /"?address"?: ?"[^"]*:(\d+)"/.exec(readLog())?.[1]);
      const url = `http://${network?.address ?? "127.0.0.1"}:${port}`;
      const isReady = async () => ((await fetch(`${url}/readyz`)).status === 200 ? true : undefined);
      if (until === "ready") await waitFor(isReady);

      return {
        ...createTestClient(url),
        pid: child.pid,
        exited: child.exited,
        readLog,
        waitReady: () => waitFor(isReady),

        /** Kills it, as a power failure would. */
        async kill(): Promise<void> {
          child.kill("SIGKILL");
          await child.exited;
        },

        /** Stops it with a signal. @returns the exit code, and the duration. */
        async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<{ code: number; tookMs: number }> {
          const startedAtMs = performance.now();
          child.kill(signal);
          return { code: await child.exited, tookMs: performance.now() - startedAtMs };
        },
      };
    },

    /** Runs a command until it exits. */
    async run(args: string[], more: Environment = {}): Promise<{ code: number; output: string; errors: string }> {
      const { child, readOutput, readErrors } = spawn(args, more);
      return { code: await child.exited, output: readOutput(), errors: readErrors() };
    },

    /** The PID of the embedded Postgres in `DATA_DIR`, from its PID file. */
    findPostgres: (): number | null => findPostgres(directory),

    remove,
  };
}

function findPostgres(directory: string): number | null {
  try {
    return Number(readFileSync(join(directory, "data/postgres/postmaster.pid"), "utf8").split("\n")[0]);
  } catch {
    return null;
  }
}

/** Postgres stops after its Parley; the folder can only be removed when no process writes to it. */
async function waitUntilPostgresExits(directory: string): Promise<void> {
  const pid = findPostgres(directory);
  const deadlineMs = performance.now() + POSTGRES_EXIT_TIMEOUT_MS;
  while (pid !== null && existsSync(`/proc/${pid}`) && findPostgres(directory) === pid) {
    if (performance.now() > deadlineMs) throw new Error(`The embedded Postgres ${pid} outlived its Parley.`);
    await Bun.sleep(POLL_MS);
  }
}
