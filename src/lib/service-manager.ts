import { dlopen } from "bun:ffi";

/** Maximum length of a socket's path; see unix(7). */
const PATH_BYTES_MAX = 108;
// Constants of socket(2) and send(2).
const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;

const libcFunctions = {
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  sendto: { args: ["i32", "buffer", "usize", "i32", "buffer", "u32"], returns: "i64" },
  close: { args: ["i32"], returns: "i32" },
} as const;

/** Number of pings per watchdog interval, so that a single late ping has no effect. */
const PINGS_PER_INTERVAL = 3;
/** Interval for repeating the state if there is no watchdog, because a datagram may be lost if the queue is full. */
const REPEAT_MS = 5_000;

export type ServiceManager = {
  notifyReady(status: string): void;
  /** Notifies the manager of the shutdown. @param timeoutMs the time after which the manager kills the service. */
  notifyStopping(timeoutMs: number): void;
};

type Environment = Record<string, string | undefined>;

/**
 * Creates a client for systemd (`Type=notify`, see sd_notify(3)). It notifies systemd when the service is ready and when it stops,
 * and pings the watchdog from the event loop, so that a hung process is restarted. Without systemd, it does nothing.
 * @param onFailure called once if the manager can't be reached.
 */
export function createServiceManager(
  environment: Environment,
  onFailure: (reason: string) => void = () => {},
): ServiceManager {
  const path = environment.NOTIFY_SOCKET;
  if (!path || process.platform !== "linux") return { notifyReady() {}, notifyStopping() {} };
  const intervalMs = findWatchdogMs(environment);
  let timer: NodeJS.Timeout | undefined;
  let hasFailed = false;

  function notify(lines: string[]): void {
    const reason = sendDatagram(path ?? "", lines.join("\n"));
    if (reason === null || hasFailed) return;
    hasFailed = true;
    onFailure(reason);
  }

  return {
    notifyReady(status) {
      const lines = ["READY=1", `STATUS=${status}`, "WATCHDOG=1"];
      notify(lines);
      timer = setInterval(() => notify(lines), intervalMs === null ? REPEAT_MS : intervalMs / PINGS_PER_INTERVAL);
      timer.unref();
    },
    notifyStopping(timeoutMs) {
      clearInterval(timer);
      notify(["STOPPING=1", "STATUS=Stopping", `EXTEND_TIMEOUT_USEC=${timeoutMs * 1_000}`]);
    },
  };
}

/** Returns how often the manager expects a ping from this process, or null if there is no watchdog. */
function findWatchdogMs({ WATCHDOG_USEC, WATCHDOG_PID }: Environment): number | null {
  if (WATCHDOG_PID && Number(WATCHDOG_PID) !== process.pid) return null;
  const intervalMs = Number(WATCHDOG_USEC) / 1_000;
  return intervalMs > 0 ? intervalMs : null;
}

/**
 * Sends one datagram to a Unix socket. Calls the C library, because Bun has no API for this. Never blocks.
 * @param path the socket's path; begins with `@` for a name in the abstract namespace.
 * @returns the reason why the datagram couldn't be sent, or null.
 */
function sendDatagram(path: string, text: string): string | null {
  const name = Buffer.from(path.replace(/^@/, "\0"));
  if (name.length > PATH_BYTES_MAX || !/^[/@]/.test(path)) return `NOTIFY_SOCKET is not the path of a socket: ${path}`;
  const address = Buffer.alloc(2 + name.length);
  address.writeUInt16LE(AF_UNIX);
  name.copy(address, 2);
  const data = Buffer.from(text);
  const libc = openLibc();
  if (libc === null) return "the C library can't be opened";
  try {
    const socket = libc.symbols.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (socket < 0) return "no socket can be created";
    const sentBytes = libc.symbols.sendto(
      socket,
      data,
      data.length,
      MSG_DONTWAIT | MSG_NOSIGNAL,
      address,
      address.length,
    );
    libc.symbols.close(socket);
    return Number(sentBytes) === data.length ? null : `nothing can be sent to ${path}`;
  } finally {
    libc.close();
  }
}

function openLibc() {
  for (const name of ["libc.so.6", `libc.musl-${process.arch === "arm64" ? "aarch64" : "x86_64"}.so.1`])
    try {
      return dlopen(name, libcFunctions);
    } catch {
      // Tries the next C library.
    }
  return null;
}
