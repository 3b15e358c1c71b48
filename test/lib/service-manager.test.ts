import { dlopen } from "bun:ffi";
import { afterEach, expect, test } from "bun:test";
import { rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServiceManager } from "../../src/lib/service-manager.ts";

// socket(2), bind(2), recv(2)
const { symbols: libc } = dlopen("libc.so.6", {
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  bind: { args: ["i32", "buffer", "u32"], returns: "i32" },
  recv: { args: ["i32", "buffer", "usize", "i32"], returns: "i64" },
  close: { args: ["i32"], returns: "i32" },
});
const [AF_UNIX, SOCK_DGRAM, MSG_DONTWAIT] = [1, 2, 0x40];

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const close of cleanups.splice(0)) close();
});

/** Opens a socket like systemd's at a path, or in the abstract namespace if the path starts with `@`. */
function openNotifySocket(path: string) {
  const descriptor = libc.socket(AF_UNIX, SOCK_DGRAM, 0);
  const address = Buffer.from(`\x01\0${path.replace(/^@/, "\0")}`);
  expect(libc.bind(descriptor, address, address.length)).toBe(0);
  cleanups.push(() => {
    libc.close(descriptor);
    if (path.startsWith("/")) rmSync(path, { force: true });
  });
  /** Returns the messages that have arrived, oldest first. */
  return function readMessages(): string[] {
    const messages: string[] = [];
    const buffer = Buffer.alloc(4_096);
    for (;;) {
      const bytes = Number(libc.recv(descriptor, buffer, buffer.length, MSG_DONTWAIT));
      if (bytes < 0) return messages;
      messages.push(buffer.toString("utf8", 0, bytes));
    }
  };
}

const createSocketName = () => `parley-notify-${process.pid}-${Math.random().toString(36).slice(2)}`;

test.each([join(tmpdir(), createSocketName()), `@${createSocketName()}`])(
  "Parley notifies systemd at %s when it is ready, alive and stopping",
  async (path) => {
    const readMessages = openNotifySocket(path);
    const manager = createServiceManager({ NOTIFY_SOCKET: path, WATCHDOG_USEC: "300000" });
    expect(readMessages()).toEqual([]);
    manager.notifyReady("Parley is ready: http://localhost:3000");
    const readyMessage = "READY=1\nSTATUS=Parley is ready: http://localhost:3000\nWATCHDOG=1";
    expect(readMessages()).toEqual([readyMessage]);
    await Bun.sleep(350);
    // Pings are sent at a third of the watchdog's interval of 300 ms.
    const pings = readMessages();
    expect(pings.length).toBeGreaterThanOrEqual(2);
    expect(new Set(pings)).toEqual(new Set([readyMessage]));
    manager.notifyStopping(55_000);
    expect(readMessages()).toEqual(["STOPPING=1\nSTATUS=Stopping\nEXTEND_TIMEOUT_USEC=55000000"]);
    await Bun.sleep(250);
    expect(readMessages()).toEqual([]);
  },
);

test("no pings are sent if the watchdog is for a different process", async () => {
  const path = `@${createSocketName()}`;
  const readMessages = openNotifySocket(path);
  const manager = createServiceManager({ NOTIFY_SOCKET: path, WATCHDOG_USEC: "30000", WATCHDOG_PID: "1" });
  manager.notifyReady("ready");
  await Bun.sleep(150);
  expect(readMessages()).toHaveLength(1);
  manager.notifyStopping(1);
});

test("nothing is sent without systemd, and an unreachable socket is reported once", async () => {
  const reasons: string[] = [];
  createServiceManager({}, (reason) => reasons.push(reason)).notifyReady("ready");
  expect(reasons).toEqual([]);
  for (const path of ["/nonexistent/notify", "relative", `/${"x".repeat(200)}`]) {
    const manager = createServiceManager({ NOTIFY_SOCKET: path, WATCHDOG_USEC: "30000" }, (reason) =>
      reasons.push(reason),
    );
    manager.notifyReady("ready");
    await Bun.sleep(50);
    manager.notifyStopping(1);
  }
  expect(reasons).toEqual([
    "nothing can be sent to /nonexistent/notify",
    "NOTIFY_SOCKET is not the path of a socket: relative",
    expect.stringContaining("is not the path of a socket"),
  ]);
});
