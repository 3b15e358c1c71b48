import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildExecutable } from "../acceptance/executable.ts";

const executable = await buildExecutable();

type RunOptions = {
  cwd?: string;
  env?: Record<string, string>;
  /** The standard input. */
  input?: string;
  /** Runs the command on a pseudo-terminal (util-linux's `script`). Write to `stdin` to type. */
  isOnTerminal?: boolean;
};

/** Starts the executable. It inherits only PATH from the tests' environment. */
export function spawnParley(
  args: string[],
  { cwd = tmpdir(), env = {}, input, isOnTerminal = false }: RunOptions = {},
) {
  const command = [executable, ...args];
  const quotedCommand = command.map((part) => `'${part}'`).join(" ");
  return Bun.spawn(isOnTerminal ? ["script", "-qec", quotedCommand, "/dev/null"] : command, {
    cwd,
    env: { PATH: process.env.PATH ?? "", ...env },
    stdin: isOnTerminal ? "pipe" : input === undefined ? "ignore" : Buffer.from(input),
    stdout: "pipe",
    stderr: "pipe",
  });
}

/** Runs a command until it exits. */
export async function runParley(args: string[], options: RunOptions = {}) {
  const child = spawnParley(args, options);
  const [stdout, stderr, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { code, stdout, stderr };
}

/** Creates an empty folder, which `using folder = createFolder()` removes after the test. */
export function createFolder() {
  const path = mkdtempSync(join(tmpdir(), "parley-test-"));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

/** Returns a TCP port that is currently free. */
export function findFreePort(): number {
  const server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response() });
  const port = server.port;
  void server.stop(true);
  if (port === undefined) throw new Error("No free port found.");
  return port;
}

/**
 * Polls a URL until the response has this status.
 * @throws Error after 15 seconds.
 */
export async function waitForStatus(url: string, status: number): Promise<void> {
  let lastResult: number | string = "no response";
  for (let attempts = 0; attempts < 300; attempts += 1) {
    lastResult = await fetch(url).then(
      (response) => response.status,
      (error: Error) => error.message,
    );
    if (lastResult === status) return;
    await Bun.sleep(50);
  }
  throw new Error(`${url} never responded with ${status}. The last result was: ${lastResult}.`);
}
