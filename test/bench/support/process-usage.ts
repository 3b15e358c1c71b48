import { readdirSync, readFileSync } from "node:fs";

/** The unit of CPU times in /proc, on every architecture that Bun supports. */
const MS_PER_TICK = 10;
const BYTES_PER_KIB = 1024;
const BYTES_PER_PAGE = 4096;

/** Returns the fields of /proc/PID/stat after the name, which can contain spaces and parentheses. */
function readStat(pid: number): string[] {
  const text = readFileSync(`/proc/${pid}/stat`, "latin1");
  return text.slice(text.lastIndexOf(")") + 2).split(" ");
}

const sumTicks = (fields: string[], from: number, end: number): number =>
  fields.slice(from, end).reduce((sum, field) => sum + Number(field), 0);

/** Returns a process's CPU time in user and kernel mode. */
export function readCpuMs(pid: number): number {
  return sumTicks(readStat(pid), 11, 13) * MS_PER_TICK;
}

/** Returns the CPU time of a process and all of its children, including those that have exited. */
export function readProcessTreeCpuMs(pid: number): number {
  let ticks = sumTicks(readStat(pid), 11, 15);
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const fields = readStat(Number(name));
      if (Number(fields[1]) === pid) ticks += sumTicks(fields, 11, 13);
    } catch {
      // The process has exited, so its time was added to its parent's.
    }
  }
  return ticks * MS_PER_TICK;
}

/**
 * Returns a process's resident memory. RSS includes all of its shared pages. PSS divides the size of a shared page by the
 * number of processes that share it.
 */
export function readMemoryBytes(pid: number): { rssBytes: number; pssBytes: number } {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, "latin1");
  const parseBytes = (name: string) => Number(new RegExp(`^${name}: +(\\d+) kB$`, "m").exec(text)?.[1]) * BYTES_PER_KIB;
  return { rssBytes: parseBytes("Rss"), pssBytes: parseBytes("Pss") };
}

/** Returns a process's RSS. Unlike `readMemoryBytes`, this function is cheap enough for polling. */
export function readRssBytes(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/statm`, "latin1").split(" ")[1]) * BYTES_PER_PAGE;
}
