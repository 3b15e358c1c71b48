/**
 * Runs a guide from top to bottom as a reader would type it, in an empty folder, with the compiled executable (`parley` in
 * the PATH). The language of a block and the options after it, which rendered pages don't show, determine what happens:
 *
 *     ```sh                         typed into the terminal `main`; a command that fails is an error
 *     ```sh exit=2                  typed, and must fail with this status
 *     ```sh terminal=bob            typed into another terminal, which has separate variables
 *     ```sh background              keeps running in the terminal `server`, or in another one with `terminal=bob`. Typing
 *                                   another block into that terminal presses Ctrl+C first. The test waits for a Parley server
 *     ```text output                the complete output of the block above; if that runs in the background, a part of its
 *                                   output. `…` matches anything, and ids and times may differ
 *     ```text input                 typed into the program of the block above, or of another terminal with `terminal=bob`
 *     ```text interrupt             Ctrl+C in the terminal of the block above, or in another one with `terminal=server`
 *     ```js file=chat.mjs           written to this file, whatever the block's language
 *     ```text error                 a message that Parley's source code must contain; not run
 *     ```sh settings                validated as settings; not run
 *     ```json schema=Message        validated against contract/; not run
 *
 * Any other block fails, unless it is listed in not-run.ts with a reason. If the page uses port 3000 and doesn't start a
 * server, one is started.
 */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { getExecutableCopy } from "../acceptance/executable.ts";
import { waitUntil } from "../support/wait-until.ts";
import { type Block, readBlocks } from "./blocks.ts";
import { isOnlyValidated } from "./checked-blocks.ts";
import { findExpected, isExpected } from "./expected-output.ts";
import { findNotRunReason } from "./not-run.ts";
import { findFreePort, replacePorts } from "./ports.ts";
import { openTerminal, type Terminal } from "./terminal.ts";

const OUTPUT_TIMEOUT_MS = 30_000;
const root = join(import.meta.dir, "../..");

export type GuideOptions = {
  /** Ports on the page, each of which is replaced by a free one. */
  ports?: number[];
  /** Maps ports on the page to the ports of servers that the test has started. */
  serverPorts?: Record<number, number>;
  /** Additional environment variables for the terminals. */
  env?: Record<string, string>;
  /** Whether the npm packages of test/sdk are installed in the reader's folder. */
  hasPackages?: boolean;
  /** Commands that the reader has already run in the terminal `main`. */
  setup?: string;
  /** Whether all blocks are typed a second time, except those in the background. */
  shouldTypeTwice?: boolean;
  /** Sections that are skipped, for example because a program isn't installed. */
  skippedSections?: string[];
  /** Files of the repository that are linked into the reader's folder. */
  files?: string[];
  /** Checks the results while the page's programs are still running. */
  checkResults?(guide: RunningGuide): Promise<void>;
};

export type RunningGuide = {
  folder: string;
  url: string;
  /** The free ports that replace those on the page. */
  ports: ReadonlyMap<number, number>;
  readScreen(terminal: string): string;
};

/** Runs a page. @throws at the first block that fails, with its line and the output of the terminals. */
export async function runGuide(page: string, options: GuideOptions = {}): Promise<void> {
  await runBlocks(readBlocks(page), options);
}

/** Runs blocks as if they were a page. */
export async function runBlocks(blocks: Block[], options: GuideOptions = {}): Promise<void> {
  const homeFolder = mkdtempSync(join(tmpdir(), "parley-guide-"));
  const ports = new Map((options.ports ?? [3000]).map((port) => [port, findFreePort()]));
  for (const [printed, port] of Object.entries(options.serverPorts ?? {})) ports.set(Number(printed), port);
  const terminals = new Map<string, Terminal>();
  try {
    const runner = await createRunner(homeFolder, ports, terminals, options);
    const blocksToRun = blocks.filter(
      (block) =>
        findNotRunReason(block) === undefined &&
        !isOnlyValidated(block) &&
        !options.skippedSections?.includes(block.section),
    );
    const needsServer = blocksToRun.some(({ text }) => text.includes(":3000")) && !blocksToRun.some(startsServer);
    if (needsServer) await runner.startServer();
    if (options.setup !== undefined) await runner.runSetup(options.setup);
    for (const block of blocksToRun) await runner.runBlock(block, blocksToRun);
    if (options.shouldTypeTwice)
      for (const block of blocksToRun)
        if (!block.isBackground && block.kind !== "input") await runner.runBlock(block, blocksToRun);
    await options.checkResults?.(runner.guide);
  } finally {
    for (const terminal of [...terminals.values()].reverse()) await terminal.close();
    rmSync(homeFolder, { recursive: true, force: true, maxRetries: 50, retryDelay: 100 });
  }
}

/** Returns whether a block starts a Parley server in the background. */
export const startsServer = ({ isBackground, text }: Block) =>
  isBackground && /(?:^|[\s/])parley(?: serve\b.*)?$/m.test(text);

async function createRunner(
  homeFolder: string,
  ports: Map<number, number>,
  terminals: Map<string, Terminal>,
  { env, hasPackages, files = [] }: GuideOptions,
) {
  const [folder, programs] = [join(homeFolder, "folder"), join(homeFolder, "bin")];
  // If root runs the tests, the embedded Postgres runs as another user, who must be able to access its data.
  chmodSync(homeFolder, 0o755);
  for (const path of [folder, programs]) mkdirSync(path);
  symlinkSync(await getExecutableCopy(), join(programs, "parley"));
  symlinkSync(join(root, ".tools/node_modules/.bin/bun"), join(programs, "bun"));
  if (hasPackages) symlinkSync(join(root, "test/sdk/node_modules"), join(folder, "node_modules"));
  for (const file of files) {
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    symlinkSync(join(root, file), join(folder, file));
  }
  const url = `http://localhost:${ports.get(3000)}`;
  const environment = {
    // /usr/bin precedes the inherited PATH, because the pages need the packages of Debian's Python.
    PATH: `${programs}:${join(root, "test/sdk/node_modules/.bin")}:/usr/local/sbin:/usr/sbin:/usr/bin:/bin:${process.env.PATH ?? ""}`,
    HOME: folder,
    LANG: "C.UTF-8",
    PORT: String(ports.get(3000)),
    ...env,
  };

  const getTerminal = (name: string): Terminal => {
    const existingTerminal = terminals.get(name);
    if (existingTerminal) return existingTerminal;
    const stateFolder = join(homeFolder, `terminal-${name}`);
    mkdirSync(stateFolder);
    const terminal = openTerminal(folder, stateFolder, environment);
    terminals.set(name, terminal);
    return terminal;
  };
  const isReady = async (port = ports.get(3000)) => {
    const response = await fetch(`http://localhost:${port}/readyz`).catch(() => undefined);
    return response?.status === 200;
  };
  const createError = (block: Block, problem: string): Error => {
    const screens = [...terminals].map(
      ([name, terminal]) => `--- terminal ${name}\n${terminal.readScreen().slice(-4000)}`,
    );
    return new Error(`${block.page}:${block.line} ${problem}\n${block.text}\n${screens.join("\n")}`);
  };
  const failBlock = (block: Block, problem: string): never => {
    throw createError(block, problem);
  };
  const adaptPorts = (text: string) => replacePorts(text, ports);
  /** Terminals in which a background program is running. */
  const busyTerminals = new Set<string>();

  async function typeShell(block: Block, allBlocks: Block[]): Promise<void> {
    const terminal = getTerminal(block.terminal);
    busyTerminals.delete(block.terminal);
    if (block.isBackground) {
      busyTerminals.add(block.terminal);
      await terminal.type(adaptPorts(block.text), "background");
      if (startsServer(block)) await waitForServer(block, terminal);
      return;
    }
    const nextBlock = allBlocks[allBlocks.indexOf(block) + 1];
    const input =
      nextBlock?.kind === "input" && nextBlock.terminal === block.terminal ? adaptPorts(nextBlock.text) : undefined;
    const status = await terminal.type(adaptPorts(block.text), block.expectedStatus === 0 ? "run" : "try", input);
    if (status !== block.expectedStatus) failBlock(block, `exited with status ${status}.`);
    const hasExpectedOutput = allBlocks[allBlocks.indexOf(block) + (input === undefined ? 1 : 2)]?.kind === "output";
    if (!hasExpectedOutput && /"type": ?"\/problems\//.test(terminal.readNewOutput()))
      failBlock(block, "received an error from the server.");
  }

  async function waitForServer(block: Block, terminal: Terminal): Promise<void> {
    const port = /PORT=(\d+)/.exec(adaptPorts(block.text))?.[1] ?? String(ports.get(3000));
    const isReadyOrExited = async () => terminal.readExitStatus() !== undefined || (await isReady(Number(port)));
    await waitUntil(isReadyOrExited, OUTPUT_TIMEOUT_MS).catch(() => failBlock(block, "wasn't ready in time."));
    if (terminal.readExitStatus() !== undefined) failBlock(block, "exited, but should have kept running.");
  }

  async function compareOutput(block: Block): Promise<void> {
    const expected = adaptPorts(block.text);
    const terminal = getTerminal(block.terminal);
    if (!busyTerminals.has(block.terminal)) {
      if (!isExpected(terminal.readNewOutput(), expected)) failBlock(block, "doesn't match the output:");
      return;
    }
    await waitUntil(() => findExpected(terminal.readNewOutput(), expected) >= 0, OUTPUT_TIMEOUT_MS).catch(() =>
      failBlock(block, "was never printed:"),
    );
    terminal.skipOutput(findExpected(terminal.readNewOutput(), expected));
  }

  async function executeBlock(block: Block, allBlocks: Block[]): Promise<void> {
    if (block.file !== undefined) {
      mkdirSync(dirname(join(folder, block.file)), { recursive: true });
      writeFileSync(join(folder, block.file), adaptPorts(block.text));
    } else if (block.kind === "output") await compareOutput(block);
    else if (block.kind === "input") {
      if (busyTerminals.has(block.terminal)) getTerminal(block.terminal).enterLines(adaptPorts(block.text));
    } else if (block.kind === "interrupt") {
      busyTerminals.delete(block.terminal);
      await getTerminal(block.terminal).interrupt();
    } else if (block.language === "sh") await typeShell(block, allBlocks);
    else if (!["", "text"].includes(block.language))
      failBlock(block, "can't be run: give it a file, or list it in not-run.ts.");
  }

  return {
    guide: { folder, url, ports, readScreen: (name: string) => getTerminal(name).readScreen() },

    async startServer(): Promise<void> {
      await getTerminal("server").type("parley serve", "background");
      await waitUntil(() => isReady(), OUTPUT_TIMEOUT_MS);
    },

    /** Runs commands that the page requires but doesn't contain. @throws if they fail. */
    async runSetup(text: string): Promise<void> {
      const status = await getTerminal("main").type(adaptPorts(text), "run");
      if (status !== 0)
        throw new Error(`The setup commands failed with status ${status}: ${getTerminal("main").readScreen()}`);
    },

    async runBlock(block: Block, allBlocks: Block[]): Promise<void> {
      await executeBlock(block, allBlocks).catch((error: Error) => {
        throw error.message.startsWith(`${block.page}:`) ? error : createError(block, error.message);
      });
    },
  };
}
