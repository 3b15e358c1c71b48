import { readFileSync } from "node:fs";
import { freemem } from "node:os";

/** Limits of this machine or container; null if unknown, as on macOS. */
export type MachineFacts = {
  openFilesMax: number | null;
  memoryMaxBytes: number | null;
  memoryFreeBytes: number;
  somaxconn: number | null;
  overcommitMode: number | null;
};

/** Reads them. @param pid of the process whose limits count. */
export function readMachineFacts(pid: number | "self"): MachineFacts {
  const limits = readText(`/proc/${pid}/limits`);
  // Inside a container, its own group is the root.
  const group = /^0::(\/.*)$/m.exec(readText(`/proc/${pid}/cgroup`) ?? "")?.[1] ?? "";
  const memory =
    readText(`/sys/fs/cgroup${group}/memory.max`) ??
    readText("/sys/fs/cgroup/memory.max") ??
    readText("/sys/fs/cgroup/memory/memory.limit_in_bytes");
  const available = /^MemAvailable:\s+(\d+) kB/m.exec(readText("/proc/meminfo") ?? "")?.[1];
  return {
    openFilesMax: readNumber(/^Max open files\s+(\S+)/m.exec(limits ?? "")?.[1]),
    memoryMaxBytes: readNumber(memory),
    memoryFreeBytes: available === undefined ? freemem() : Number(available) * 1_024,
    somaxconn: readNumber(readText("/proc/sys/net/core/somaxconn")),
    overcommitMode: readNumber(readText("/proc/sys/vm/overcommit_memory")),
  };
}

/** Null for "max" and "unlimited". */
function readNumber(text: string | null | undefined): number | null {
  const value = Number.parseInt(text ?? "", 10);
  return Number.isFinite(value) ? value : null;
}

function readText(path: string): string | null {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return null;
  }
}
