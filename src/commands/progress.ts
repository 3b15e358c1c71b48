import type { Progress } from "../db/archive.ts";
import { formatBytes } from "../lib/format-bytes.ts";

/** The minimum time between two updates of the line. */
const UPDATE_INTERVAL_MS = 100;
const BAR_CHARS = 24;

export interface ProgressLine {
  show(progress: Progress): void;
  /** Shows what is being done, for work whose progress can't be measured. */
  print(text: string): void;
  /** Removes the line. */
  end(): void;
}

/** Creates a progress line on stderr. Does nothing unless that is a terminal. */
export function createProgressLine(stream: NodeJS.WriteStream = process.stderr): ProgressLine {
  if (!stream.isTTY) return { show() {}, print() {}, end() {} };
  let writtenAtMs = Number.NEGATIVE_INFINITY;
  const write = (text: string) => stream.write(`\r\u001b[K${text.slice(0, Math.max(20, stream.columns - 1))}`);

  return {
    show({ table, rows, dataBytes, done }) {
      if (performance.now() - writtenAtMs < UPDATE_INTERVAL_MS) return;
      writtenAtMs = performance.now();
      const bar = done === null ? "" : `${createBar(done)} ${String(Math.floor(done * 100)).padStart(3)} %  `;
      write(`${bar}${formatCount(rows)} rows, ${formatBytes(dataBytes)}  ${table}`);
    },

    print(text) {
      writtenAtMs = performance.now();
      write(text);
    },

    end: () => void stream.write("\r\u001b[K"),
  };
}

function createBar(done: number): string {
  const filled = Math.round(done * BAR_CHARS);
  return `[${"#".repeat(filled)}${"-".repeat(BAR_CHARS - filled)}]`;
}

export const formatCount = (count: number): string => count.toLocaleString("en-US");
