import { appendFileSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { waitUntil } from "../support/wait-until.ts";

const STEP_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 20_000;

export type Terminal = ReturnType<typeof openTerminal>;

/**
 * Types each file into one bash, as into a terminal: variables and functions stay. A command that fails ends the file.
 * After each file a line in `done` has its number and its status. Ctrl+C (SIGINT) ends the program and not this bash.
 */
const loop = `
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

/** How a block is typed: `run` must succeed, `try` may fail, `background` keeps running. */
type Mode = "run" | "try" | "background";

/** One terminal of a reader, in their folder. `stateFolder` is empty and this terminal's own. */
export function openTerminal(folder: string, stateFolder: string, env: Record<string, string>) {
  const path = (name: string) => join(stateFolder, name);
  for (const name of ["done", "screen"]) writeFileSync(path(name), "");
  Bun.spawnSync(["mkfifo", path("input")]);
  const screen = openSync(path("screen"), "a");
  const child = Bun.spawn(["bash", "--norc", "-c", loop, "bash", stateFolder], {
    cwd: folder,
    env,
    stdio: ["pipe", screen, screen],
    detached: true,
  });
  let count = 0;
  let isBusy = false;
  let seen = 0;
  const readScreen = () => readFileSync(path("screen"), "utf8");
  const readStatus = (): number | undefined => {
    const status = new RegExp(`^${count} (\\d+)$`, "m").exec(readFileSync(path("done"), "utf8"))?.[1];
    if (status !== undefined) return Number(status);
    return child.exitCode ?? undefined;
  };
  const signal = (name: NodeJS.Signals) => {
    try {
      process.kill(-child.pid, name);
    } catch {
      // All of it has ended.
    }
  };

  /** Ends a program that still runs, as Ctrl+C does. */
  async function interrupt(): Promise<void> {
    if (!isBusy) return;
    signal("SIGINT");
    await waitUntil(() => readStatus() !== undefined, STOP_TIMEOUT_MS).catch(() => {
      throw new Error("can't be typed: Ctrl+C doesn't end what runs in its terminal.");
    });
    isBusy = false;
  }

  return {
    interrupt,

    /** Everything that the terminal has shown. */
    readScreen,

    /** What it has shown since the last block was typed, or since the last `skip`. */
    readNew: () => readScreen().slice(seen),

    /** Leaves out what has been compared. */
    skip: (characters: number) => {
      seen += characters;
    },

    /** Types a block; what still runs is interrupted first. @returns its status; 0 for a background block. */
    async type(text: string, mode: Mode, input?: string): Promise<number> {
      await interrupt();
      seen = readScreen().length;
      count += 1;
      const file = path(`${count}.sh`);
      writeFileSync(file, text);
      if (input !== undefined) writeFileSync(`${file}.input`, input);
      await child.stdin.write(`${input === undefined ? mode : "typed"} ${file}\n`);
      await child.stdin.flush();
      isBusy = true;
      if (mode === "background") return 0;
      await waitUntil(() => readStatus() !== undefined, STEP_TIMEOUT_MS).catch(() => {
        throw new Error(`doesn't end within ${STEP_TIMEOUT_MS / 1000} s.`);
      });
      isBusy = false;
      return readStatus() ?? 0;
    },

    /** The status of the block that runs in the background, once it has ended. */
    readEnd: () => (isBusy ? readStatus() : undefined),

    /** Types lines into the program that runs here. */
    enter: (lines: string) => appendFileSync(path("input"), lines),

    /** Ends everything that was started here. */
    async close(): Promise<void> {
      await interrupt().catch(() => {});
      signal("SIGTERM");
      await waitUntil(() => child.exitCode !== null || child.signalCode !== null, STOP_TIMEOUT_MS).catch(() => {});
      signal("SIGKILL");
      await child.exited;
    },
  };
}
