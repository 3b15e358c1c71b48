/**
 * Runs a guide as a reader would type it, from top to bottom, in an empty folder, against the compiled executable (`parley`
 * in the PATH). The block's language says what happens; further words after it aren't shown on rendered pages:
 *
 *     ```sh                         typed into the terminal `main`; a command that fails is an error
 *     ```sh exit=2                  it fails with this status
 *     ```sh terminal=bob            another terminal, with variables of its own
 *     ```sh background              keeps running, in the terminal `server`; `terminal=bob` names another one. Typing another
 *                                   block into that terminal presses Ctrl+C first. A server on port 3000 is waited for
 *     ```text output                what the block above it has shown, completely; or, if that is in the background, what it
 *                                   shows sooner or later. `…` stands for anything; ids and times differ
 *     ```text input                 typed into the block above it, or, with `terminal=bob`, into the program there
 *     ```text interrupt             Ctrl+C in the terminal of the block above it, or in `terminal=server`
 *     ```js file=chat.mjs           written to this file, in any language
 *     ```text error                 a message of Parley, which its sources must have; not run
 *     ```sh settings                settings, accepted as a configuration; not run
 *     ```json schema=Message        validated against contract/; not run
 *
 * Any other block fails, unless it is in not-run.ts with a reason. If the page names port 3000 and starts no
 * server itself, one is running.
 */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { findExecutable } from "../acceptance/executable.ts";
import { waitUntil } from "../support/wait-until.ts";
import { type Block, readBlocks } from "./blocks.ts";
import { isChecked } from "./checked-blocks.ts";
import { findExpected, isExpected } from "./expected-output.ts";
import { findReason } from "./not-run.ts";
import { findFreePort, replacePorts } from "./ports.ts";
import { openTerminal, type Terminal } from "./terminal.ts";

const OUTPUT_TIMEOUT_MS = 30_000;
const root = join(import.meta.dir, "../..");

export type GuideOptions = {
  /** Ports that the page names. Each is replaced by a free one. */
  ports?: number[];
  /** Ports that the page names, of servers that the test has started, and their own ports. */
  servers?: Record<number, number>;
  /** More of the environment of its terminals. */
  env?: Record<string, string>;
  /** Whether npm packages of test/sdk are installed in the reader's folder. */
  packages?: boolean;
  /** What the reader has done before, in the same terminal: for pages that don't start from nothing. */
  before?: string;
  /** Types all blocks a second time, but for those in the background: they have to work again. */
  twice?: boolean;
  /** Sections that are left out, because a program of theirs isn't installed. */
  without?: string[];
  /** Files of the repository that the reader has in the folder, as links. */
  files?: string[];
  /** Looks at what the page has made, while everything still runs. */
  afterwards?(guide: RunningGuide): Promise<void>;
};

export type RunningGuide = {
  folder: string;
  url: string;
  /** The free ports that replace those of the page. */
  ports: ReadonlyMap<number, number>;
  readScreen(terminal: string): string;
};

/** Runs a page. @throws Error at the first block that fails, with its line and what its terminal showed. */
export async function runGuide(page: string, options: GuideOptions = {}): Promise<void> {
  await runBlocks(readBlocks(page), options);
}

/** Runs blocks as a page: see above. */
export async function runBlocks(blocks: Block[], options: GuideOptions = {}): Promise<void> {
  const home = mkdtempSync(join(tmpdir(), "parley-guide-"));
  const ports = new Map((options.ports ?? [3000]).map((port) => [port, findFreePort()]));
  for (const [printed, port] of Object.entries(options.servers ?? {})) ports.set(Number(printed), port);
  const terminals = new Map<string, Terminal>();
  try {
    const typist = await createTypist(home, ports, terminals, options);
    const todo = blocks.filter(
      (block) => findReason(block) === undefined && !isChecked(block) && !options.without?.includes(block.section),
    );
    const needsServer = todo.some(({ text }) => text.includes(":3000")) && !todo.some(startsServer);
    if (needsServer) await typist.startServer();
    if (options.before !== undefined) await typist.prepare(options.before);
    for (const block of todo) await typist.type(block, todo);
    if (options.twice)
      for (const block of todo) if (!block.background && block.kind !== "input") await typist.type(block, todo);
    await options.afterwards?.(typist.guide);
  } finally {
    for (const terminal of [...terminals.values()].reverse()) await terminal.close();
    rmSync(home, { recursive: true, force: true, maxRetries: 50, retryDelay: 100 });
  }
}

/** `parley serve`, or `parley` without a command, at the end of a line. */
export const startsServer = ({ background, text }: Block) =>
  background && /(?:^|[\s/])parley(?: serve\b.*)?$/m.test(text);

async function createTypist(
  home: string,
  ports: Map<number, number>,
  terminals: Map<string, Terminal>,
  { env, packages, files = [] }: GuideOptions,
) {
  const [folder, programs] = [join(home, "folder"), join(home, "bin")];
  // The embedded Postgres of a root user has to reach its data.
  chmodSync(home, 0o755);
  for (const path of [folder, programs]) mkdirSync(path);
  symlinkSync(await findExecutable(), join(programs, "parley"));
  symlinkSync(join(root, ".tools/node_modules/.bin/bun"), join(programs, "bun"));
  if (packages) symlinkSync(join(root, "test/sdk/node_modules"), join(folder, "node_modules"));
  for (const file of files) {
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    symlinkSync(join(root, file), join(folder, file));
  }
  const url = `http://localhost:${ports.get(3000)}`;
  const environment = {
    // Debian's own Python first: its packages are those that the pages name.
    PATH: `${programs}:${join(root, "test/sdk/node_modules/.bin")}:/usr/local/sbin:/usr/sbin:/usr/bin:/bin:${process.env.PATH ?? ""}`,
    HOME: folder,
    LANG: "C.UTF-8",
    PORT: String(ports.get(3000)),
    ...env,
  };

  const open = (name: string): Terminal => {
    const found = terminals.get(name);
    if (found) return found;
    const state = join(home, `terminal-${name}`);
    mkdirSync(state);
    const terminal = openTerminal(folder, state, environment);
    terminals.set(name, terminal);
    return terminal;
  };
  const isReady = async (port = ports.get(3000)) => {
    const response = await fetch(`http://localhost:${port}/readyz`).catch(() => undefined);
    return response?.status === 200;
  };
  const createError = (block: Block, what: string): Error => {
    const screens = [...terminals].map(
      ([name, terminal]) => `--- terminal ${name}\n${terminal.readScreen().slice(-4000)}`,
    );
    return new Error(`${block.page}:${block.line} ${what}\n${block.text}\n${screens.join("\n")}`);
  };
  const fail = (block: Block, what: string): never => {
    throw createError(block, what);
  };
  const place = (text: string) => replacePorts(text, ports);
  /** Terminals in which a program runs. */
  const busy = new Set<string>();

  async function typeShell(block: Block, all: Block[]): Promise<void> {
    const terminal = open(block.terminal);
    busy.delete(block.terminal);
    if (block.background) {
      busy.add(block.terminal);
      await terminal.type(place(block.text), "background");
      if (startsServer(block)) await waitForServer(block, terminal);
      return;
    }
    const next = all[all.indexOf(block) + 1];
    const input = next?.kind === "input" && next.terminal === block.terminal ? place(next.text) : undefined;
    const status = await terminal.type(place(block.text), block.exit === 0 ? "run" : "try", input);
    if (status !== block.exit) fail(block, `ended with ${status}.`);
    const isShown = all[all.indexOf(block) + (input === undefined ? 1 : 2)]?.kind === "output";
    if (!isShown && /"type": ?"\/problems\//.test(terminal.readNew())) fail(block, "got an error from the server.");
  }

  async function waitForServer(block: Block, terminal: Terminal): Promise<void> {
    const port = /PORT=(\d+)/.exec(place(block.text))?.[1] ?? String(ports.get(3000));
    const isDone = async () => terminal.readEnd() !== undefined || (await isReady(Number(port)));
    await waitUntil(isDone, OUTPUT_TIMEOUT_MS).catch(() => fail(block, "isn't ready yet."));
    if (terminal.readEnd() !== undefined) fail(block, "has ended, and should keep running.");
  }

  async function compare(block: Block): Promise<void> {
    const expected = place(block.text);
    const terminal = open(block.terminal);
    if (!busy.has(block.terminal)) {
      if (!isExpected(terminal.readNew(), expected)) fail(block, "isn't what was shown:");
      return;
    }
    await waitUntil(() => findExpected(terminal.readNew(), expected) >= 0, OUTPUT_TIMEOUT_MS).catch(() =>
      fail(block, "was never shown:"),
    );
    terminal.skip(findExpected(terminal.readNew(), expected));
  }

  async function act(block: Block, all: Block[]): Promise<void> {
    if (block.file !== undefined) {
      mkdirSync(dirname(join(folder, block.file)), { recursive: true });
      writeFileSync(join(folder, block.file), place(block.text));
    } else if (block.kind === "output") await compare(block);
    else if (block.kind === "input") {
      if (busy.has(block.terminal)) open(block.terminal).enter(place(block.text));
    } else if (block.kind === "interrupt") {
      busy.delete(block.terminal);
      await open(block.terminal).interrupt();
    } else if (block.language === "sh") await typeShell(block, all);
    else if (!["", "text"].includes(block.language))
      fail(block, "can't be run: give it a file, or list it in not-run.ts.");
  }

  return {
    guide: { folder, url, ports, readScreen: (name: string) => open(name).readScreen() },

    async startServer(): Promise<void> {
      await open("server").type("parley serve", "background");
      await waitUntil(() => isReady(), OUTPUT_TIMEOUT_MS);
    },

    /** Types what comes before the page. @throws Error if it fails. */
    async prepare(text: string): Promise<void> {
      const status = await open("main").type(place(text), "run");
      if (status !== 0)
        throw new Error(`What comes before the page ended with ${status}: ${open("main").readScreen()}`);
    },

    /** Does what one block says. */
    async type(block: Block, all: Block[]): Promise<void> {
      await act(block, all).catch((error: Error) => {
        throw error.message.startsWith(`${block.page}:`) ? error : createError(block, error.message);
      });
    },
  };
}
