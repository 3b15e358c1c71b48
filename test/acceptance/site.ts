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

/** Starts of whole servers on a busy machine; far above what a test takes. */
export const TEST_TIMEOUT_MS = 60_000;
const START_TIMEOUT_MS = 60_000;
const POSTGRES_END_TIMEOUT_MS = 15_000;
const POLL_MS = 10;

const isRoot = process.getuid?.() === 0;

type Environment = Record<string, string>;
type Options = {
  env?: Environment;
  /** Who runs it, when the tests run as root; otherwise they are an ordinary user themselves. */
  user?: { uid: number; gid: number };
};
type StartOptions = {
  env?: Environment;
  /** `listening` returns as soon as the port is open, which may be before the database is there. */
  until?: "listening" | "ready";
  /** Another network to run in: the command before it, and its address there. */
  network?: { inside: string[]; address: string };
};
type Process = { child: Bun.Subprocess; readOutput(): string; readErrors(): string };

export type Site = Awaited<ReturnType<typeof createSite>>;
export type Parley = Awaited<ReturnType<Site["start"]>>;

/** A fresh folder in which the executable is started, killed and started again, each time on a free port. */
export async function createSite({ env = {}, user }: Options = {}) {
  const executable = await findExecutable();
  const home = mkdtempSync(join(tmpdir(), "parley-site-"));
  const directory = join(home, "folder");
  chmodSync(home, 0o755);
  mkdirSync(directory);
  const prefix =
    isRoot && user ? ["setpriv", `--reuid=${user.uid}`, `--regid=${user.gid}`, "--clear-groups", "--"] : [];
  if (isRoot && user) chownSync(directory, user.uid, user.gid);
  // Nothing of the environment of the tests gets in.
  const base: Environment = { PATH: process.env.PATH ?? "", HOME: "/nonexistent", PORT: "0", ...env };
  const processes: Process[] = [];
  // Should a test end too early to do it itself, nothing of it stays.
  atEndOfRun(remove);

  /** Ends what still runs here, and removes everything. */
  async function remove(): Promise<void> {
    for (const { child } of processes) child.kill("SIGKILL");
    await Promise.all(processes.map(({ child }) => child.exited));
    await untilPostgresEnds(directory);
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

    /** Everything that was printed here, by all of its processes. */
    readLog: (): string => processes.map((process) => process.readOutput() + process.readErrors()).join(""),

    /** Starts the server. @throws when it ends by itself, or does not come up in 20 seconds. */
    async start({ env: more = {}, until = "ready", network }: StartOptions = {}) {
      const { child, readOutput, readErrors } = spawn([], more, network?.inside);
      const readLog = () => readOutput() + readErrors();
      const deadlineMs = performance.now() + START_TIMEOUT_MS;
      async function waitFor<T>(look: () => Promise<T | undefined> | T | undefined): Promise<T> {
        for (;;) {
          const seen = await look();
          if (seen !== undefined) return seen;
          if (child.exitCode !== null) throw new Error(`Parley ended with ${child.exitCode}: ${readLog()}`);
          if (performance.now() > deadlineMs) throw new Error(`Parley does not come up: ${readLog()}`);
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

        /** Ends it as a power failure would. */
        async kill(): Promise<void> {
          child.kill("SIGKILL");
          await child.exited;
        },

        /** Ends it in order. @returns its exit code, and how long that took. */
        async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<{ code: number; tookMs: number }> {
          const startedAtMs = performance.now();
          child.kill(signal);
          return { code: await child.exited, tookMs: performance.now() - startedAtMs };
        },
      };
    },

    /** Runs a command to its end. */
    async run(args: string[], more: Environment = {}): Promise<{ code: number; output: string; errors: string }> {
      const { child, readOutput, readErrors } = spawn(args, more);
      return { code: await child.exited, output: readOutput(), errors: readErrors() };
    },

    /** The process of the embedded Postgres in `DATA_DIR`, as its own file names it. */
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

/** It follows its Parley by itself; a folder is only removed when nobody writes in it any more. */
async function untilPostgresEnds(directory: string): Promise<void> {
  const pid = findPostgres(directory);
  const deadlineMs = performance.now() + POSTGRES_END_TIMEOUT_MS;
  while (pid !== null && existsSync(`/proc/${pid}`) && findPostgres(directory) === pid) {
    if (performance.now() > deadlineMs) throw new Error(`The embedded Postgres ${pid} has outlived its Parley.`);
    await Bun.sleep(POLL_MS);
  }
}
