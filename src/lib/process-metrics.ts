import { readdirSync, readFileSync } from "node:fs";
import { Counter, Gauge, type Registry } from "prom-client";

/**
 * Registers the standard process metrics that work on Bun. prom-client's defaults also read V8's heap spaces and libuv's
 * handles, which Bun doesn't have.
 */
export function registerProcessMetrics(registry: Registry): void {
  const registers = [registry];
  const createGauge = (name: string, help: string, read: () => number | null) =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        const value = read();
        if (value === null) this.remove();
        else this.set(value);
      },
    });
  const createCpuCounter = (name: string, help: string, readMicros: (usage: NodeJS.CpuUsage) => number) =>
    new Counter({
      name,
      help,
      registers,
      collect() {
        this.reset();
        this.inc(readMicros(process.cpuUsage()) / 1e6);
      },
    });

  createCpuCounter("process_cpu_user_seconds_total", "CPU time in user mode.", ({ user }) => user);
  createCpuCounter("process_cpu_system_seconds_total", "CPU time in system mode.", ({ system }) => system);
  createCpuCounter(
    "process_cpu_seconds_total",
    "CPU time in user and system mode.",
    ({ user, system }) => user + system,
  );
  const startTimeS = Date.now() / 1000 - process.uptime();
  createGauge("process_start_time_seconds", "Start of the process, in seconds since 1970.", () => startTimeS);
  createGauge("process_resident_memory_bytes", "Resident memory.", () => process.memoryUsage.rss());
  createGauge("process_heap_bytes", "Size of the JavaScript heap.", () => process.memoryUsage().heapTotal);
  createGauge("process_open_fds", "Open file descriptors.", () =>
    readOrNull(() => readdirSync("/proc/self/fd").length - 1),
  );
  createGauge("process_max_fds", "Maximum number of open file descriptors.", () => readOrNull(readMaxFiles));
}

function readMaxFiles(): number {
  const line = /^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"));
  return Number(line?.[1]);
}

/** Returns the value, or null on systems without /proc. */
function readOrNull(read: () => number): number | null {
  try {
    const value = read();
    return Number.isFinite(value) ? value : null;
  } catch {
    return null;
  }
}
