import { appendFileSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { waitUntil } from "../support/wait-until.ts";

const STEP_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 20_000;

export type Terminal = ReturnType<typeof openTerminal>;

/**
 * Runs each file in the same bash as if its lines were typed, so that variables and functions remain. In `run` mode, a
 * failing command makes this bash exit. The number and status of each file are appended to `done`. Ctrl+C (SIGINT) stops
 * the running program, but not this bash.
 */
const shellLoop = `
exec 3<>"$1/input" 4<&0 </dev/null
trap : INT
set -uo pipefail
number=0
while IFS= read -r line <&4; do
  number=$((number + 1)); mode=\${line%% *}; block=\${line#* }
  case $mode in
    run) set -e; . "$block" </dev/null; set +e; echo "$number 0" >>"$1/done" ;;
    try) . "$block" </dev/null; echo "$number $?" >>"$1/done" ;;
    typed) . "$block" <"$block.input"; echo "$number $?" >>"$1/done" ;;
    background) . "$block" <&3; echo "$number $?" >>"$1/done" ;;
  esac
done
`;

/** How a block is run: `run` must succeed, `try` can fail, and `background` keeps running. */
type Mode = "run" | "try" | "background";

/** Opens a terminal in the reader's folder. `stateFolder` must be an empty folder for this terminal. */
export function openTerminal(folder: string, stateFolder: string, env: Record<string, string>) {
  const path = (name: string) => join(stateFolder, name);
  for (const name of ["done", "screen"]) writeFileSync(path(name), "");
  Bun.spawnSync(["mkfifo", path("input")]);
  const screen = openSync(path("screen"), "a");
  const child = Bun.spawn(["bash", "--norc", "-c", shellLoop, "bash", stateFolder], {
    cwd: folder,
    env,
    stdio: ["pipe", screen, screen],
    detached: true,
  });
  let blockCount = 0;
  let isBusy = false;
  let comparedLength = 0;
  const readScreen = () => readFileSync(path("screen"), "utf8");
  const getResponseStatus = (): number | undefined => {
    const status = new RegExp(`^${blockCount} (\\d+)$`, "m").exec(readFileSync(path("done"), "utf8"))?.[1];
    if (status !== undefined) return Number(status);
    return child.exitCode ?? undefined;
  };
  const sendSignal = (name: NodeJS.Signals) => {
    try {
      process.kill(-child.pid, name);
    } catch {
      // All processes have exited.
    }
  };

  /** Stops a running program with Ctrl+C. */
  async function interrupt(): Promise<void> {
    if (!isBusy) return;
    sendSignal("SIGINT");
    await waitUntil(() => getResponseStatus() !== undefined, STOP_TIMEOUT_MS).catch(() => {
      throw new Error("can't be typed: Ctrl+C doesn't stop the program in its terminal.");
    });
    isBusy = false;
  }

  return {
    interrupt,

    /** Returns everything that the terminal has printed. */
    readScreen,

    /** Returns what was printed since the last block was typed, or since the last call of `skipOutput`. */
    readNewOutput: () => readScreen().slice(comparedLength),

    /** Skips output that has been compared. */
    skipOutput: (characters: number) => {
      comparedLength += characters;
    },

    /** Interrupts a running program, then types a block. Returns its exit status, or 0 for a background block. */
    async type(text: string, mode: Mode, input?: string): Promise<number> {
      await interrupt();
      comparedLength = readScreen().length;
      blockCount += 1;
      const file = path(`${blockCount}.sh`);
      writeFileSync(file, text);
      if (input !== undefined) writeFileSync(`${file}.input`, input);
      await child.stdin.write(`${input === undefined ? mode : "typed"} ${file}\n`);
      await child.stdin.flush();
      isBusy = true;
      if (mode === "background") return 0;
      await waitUntil(() => getResponseStatus() !== undefined, STEP_TIMEOUT_MS).catch(() => {
        throw new Error(`doesn't finish within ${STEP_TIMEOUT_MS / 1000} s.`);
      });
      isBusy = false;
      return getResponseStatus() ?? 0;
    },

    /** Returns the exit status of the background block if it has exited. */
    readExitStatus: () => (isBusy ? getResponseStatus() : undefined),

    /** Types lines into the running program. */
    enterLines: (lines: string) => appendFileSync(path("input"), lines),

    /** Stops everything that was started in the terminal. */
    async close(): Promise<void> {
      await interrupt().catch(() => {});
      sendSignal("SIGTERM");
      await waitUntil(() => child.exitCode !== null || child.signalCode !== null, STOP_TIMEOUT_MS).catch(() => {});
      sendSignal("SIGKILL");
      await child.exited;
    },
  };
}
