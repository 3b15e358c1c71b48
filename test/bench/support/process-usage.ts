import { readdirSync, readFileSync } from "node:fs";

/** Linux reports the CPU time in /proc in hundredths of a second on every architecture that Bun supports. */
const MS_PER_TICK = 10;
const BYTES_PER_KIB = 1024;
const BYTES_PER_PAGE = 4096;

/** The fields of /proc/PID/stat after the name, which may itself contain spaces and parentheses. */
function readStat(pid: number): string[] {
  const text = readFileSync(`/proc/${pid}/stat`, "latin1");
  return text.slice(text.lastIndexOf(")") + 2).split(" ");
}

const sumTicks = (fields: string[], from: number, until: number): number =>
  fields.slice(from, until).reduce((sum, field) => sum + Number(field), 0);

/** The CPU time of a process so far, in user and kernel mode, over all threads. */
export function readCpuMs(pid: number): number {
  return sumTicks(readStat(pid), 11, 13) * MS_PER_TICK;
}

/** The CPU time of a process, its living children, and those that have ended. Postgres has a child per connection. */
export function readFamilyCpuMs(pid: number): number {
  let ticks = sumTicks(readStat(pid), 11, 15);
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const fields = readStat(Number(name));
      if (Number(fields[1]) === pid) ticks += sumTicks(fields, 11, 13);
    } catch {
      // It ended after the folder was read; its time was added to its parent's.
    }
  }
  return ticks * MS_PER_TICK;
}

/** The memory of a process: resident pages, with shared ones counted fully (RSS) or proportionally (PSS). */
export function readMemoryBytes(pid: number): { rssBytes: number; pssBytes: number } {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, "latin1");
  const read = (name: string) => Number(new RegExp(`^${name}: +(\\d+) kB$`, "m").exec(text)?.[1]) * BYTES_PER_KIB;
  return { rssBytes: read("Rss"), pssBytes: read("Pss") };
}

/** Resident pages of a process; cheaper to read than `readMemoryBytes`, so that it can be polled. */
export function readRssBytes(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/statm`, "latin1").split(" ")[1]) * BYTES_PER_PAGE;
}
