import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildExecutable } from "../acceptance/executable.ts";

/** The compiled executable; it starts ten times faster than the sources. */
const executable = await buildExecutable();

type RunOptions = {
  cwd?: string;
  env?: Record<string, string>;
  /** Its standard input; default: none. */
  input?: string;
  /** Whether it runs on a terminal (util-linux's script), whose keyboard is `stdin`. */
  isOnTerminal?: boolean;
};

/** Starts the command line in its own process, with only PATH from this environment. */
export function spawnParley(
  args: string[],
  { cwd = tmpdir(), env = {}, input, isOnTerminal = false }: RunOptions = {},
) {
  const command = [executable, ...args];
  const quoted = command.map((part) => `'${part}'`).join(" ");
  return Bun.spawn(isOnTerminal ? ["script", "-qec", quoted, "/dev/null"] : command, {
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

/** An empty folder, removed after the test: `using folder = createFolder()`. */
export function createFolder() {
  const path = mkdtempSync(join(tmpdir(), "parley-test-"));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

/** A port that was free a moment ago. */
export function findFreePort(): number {
  const server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response() });
  const port = server.port;
  void server.stop(true);
  if (port === undefined) throw new Error("No free port found.");
  return port;
}

/**
 * Polls until the response has this status.
 * @throws Error if it doesn't within 15 seconds.
 */
export async function waitForStatus(url: string, status: number): Promise<void> {
  let last: number | string = "nothing";
  for (let attempts = 0; attempts < 300; attempts += 1) {
    last = await fetch(url).then(
      (response) => response.status,
      (error: Error) => error.message,
    );
    if (last === status) return;
    await Bun.sleep(50);
  }
  throw new Error(`${url} never responded with ${status}; last: ${last}.`);
}
