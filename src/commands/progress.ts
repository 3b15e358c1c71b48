import type { Progress } from "../db/archive.ts";
import { formatBytes } from "../lib/format-bytes.ts";

/** Minimum interval between updates of the line. */
const UPDATE_INTERVAL_MS = 100;
const BAR_CHARS = 24;

export interface ProgressLine {
  show(progress: Progress): void;
  /** Shows a description of the current work, if its progress can't be measured. */
  print(text: string): void;
  /** Removes the line. */
  clear(): void;
}

/** Creates a progress line on stderr. Prints nothing unless stderr is a terminal. */
export function createProgressLine(stream: NodeJS.WriteStream = process.stderr): ProgressLine {
  if (!stream.isTTY) return { show() {}, print() {}, clear() {} };
  let writtenAtMs = Number.NEGATIVE_INFINITY;
  const write = (text: string) => stream.write(`\r\u001b[K${text.slice(0, Math.max(20, stream.columns - 1))}`);

  return {
    show({ table, rows, dataBytes, fractionDone }) {
      if (performance.now() - writtenAtMs < UPDATE_INTERVAL_MS) return;
      writtenAtMs = performance.now();
      const bar =
        fractionDone === null
          ? ""
          : `${createBar(fractionDone)} ${String(Math.floor(fractionDone * 100)).padStart(3)} %  `;
      write(`${bar}${formatCount(rows)} rows, ${formatBytes(dataBytes)}  ${table}`);
    },

    print(text) {
      writtenAtMs = performance.now();
      write(text);
    },

    clear: () => void stream.write("\r\u001b[K"),
  };
}

function createBar(fraction: number): string {
  const filled = Math.round(fraction * BAR_CHARS);
  return `[${"#".repeat(filled)}${"-".repeat(BAR_CHARS - filled)}]`;
}

export const formatCount = (count: number): string => count.toLocaleString("en-US");
