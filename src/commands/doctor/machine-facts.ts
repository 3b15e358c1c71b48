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

/** Reads the limits that apply to the process `pid`. */
export function readMachineFacts(pid: number | "self"): MachineFacts {
  const limitsText = findFileText(`/proc/${pid}/limits`);
  // Inside a container, the path is relative to the container's own cgroup.
  const cgroupPath = /^0::(\/.*)$/m.exec(findFileText(`/proc/${pid}/cgroup`) ?? "")?.[1] ?? "";
  const memoryMaxText =
    findFileText(`/sys/fs/cgroup${cgroupPath}/memory.max`) ??
    findFileText("/sys/fs/cgroup/memory.max") ??
    findFileText("/sys/fs/cgroup/memory/memory.limit_in_bytes");
  const availableKib = /^MemAvailable:\s+(\d+) kB/m.exec(findFileText("/proc/meminfo") ?? "")?.[1];
  return {
    openFilesMax: parseNumber(/^Max open files\s+(\S+)/m.exec(limitsText ?? "")?.[1]),
    memoryMaxBytes: parseNumber(memoryMaxText),
    memoryFreeBytes: availableKib === undefined ? freemem() : Number(availableKib) * 1_024,
    somaxconn: parseNumber(findFileText("/proc/sys/net/core/somaxconn")),
    overcommitMode: parseNumber(findFileText("/proc/sys/vm/overcommit_memory")),
  };
}

/** Parses a limit. Returns null for "max" and "unlimited". */
function parseNumber(text: string | null | undefined): number | null {
  const value = Number.parseInt(text ?? "", 10);
  return Number.isFinite(value) ? value : null;
}

function findFileText(path: string): string | null {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return null;
  }
}
