import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";

export type Child = ReturnType<typeof startChild>;

type Options = {
  command: string;
  args: readonly string[];
  environment: Record<string, string>;
  workDir: string;
  /** Receives stdout and stderr. */
  logFile: string;
};

const QUOTED_CHARS_MAX = 600;

/** Starts a child process in its own process group. Ctrl-C therefore interrupts only the self-test, which then stops the child. */
export function startChild({ command, args, environment, workDir, logFile }: Options) {
  const output = openSync(logFile, "a", 0o600);
  const child = spawn(command, args, {
    cwd: workDir,
    env: environment,
    detached: true,
    stdio: ["ignore", output, output],
  });
  closeSync(output);
  let isRunning = true;
  const exited = new Promise<number | string>((resolve) => {
    child.once("error", (error) => resolve(error.message));
    child.once("exit", (code, signal) => resolve(code ?? `killed by ${signal}`));
  }).finally(() => {
    isRunning = false;
  });
  return {
    /** Resolves with the exit code, or with the reason why there is none. */
    exited,
    isRunning: () => isRunning,
    kill: (signal: NodeJS.Signals) => void (isRunning && child.kill(signal)),
    readLog: (): string => readFileSync(logFile, "utf8"),
    logFile,
  };
}

/** Waits until a command exits. @throws Error with its last output if it fails. */
export async function waitForSuccess(child: Child, name: string): Promise<{ durationMs: number }> {
  const startedAtMs = performance.now();
  const code = await child.exited;
  if (code === 0) return { durationMs: performance.now() - startedAtMs };
  throw new Error(`expected \`parley ${name}\` to succeed, but got exit code ${code}: ${quoteLog(child)}`);
}

/** Returns a child's last output, for an error message. */
export const quoteLog = (child: Child): string => child.readLog().trim().slice(-QUOTED_CHARS_MAX);
