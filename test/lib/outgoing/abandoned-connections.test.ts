import { afterEach, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { createGuardedSender } from "../../../src/lib/outgoing/send-guarded.ts";

/** The number of connections that fills a listener's backlog. */
const QUEUED_CONNECTIONS = 600;
const ROUNDS = 3;
const SENDS_PER_ROUND = 16;

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanUp of cleanups.splice(0)) cleanUp();
});

/** Starts a server whose connections hang, like those to a server that drops packets. */
async function startHangingServer() {
  const child = Bun.spawn([process.execPath, join(import.meta.dir, "fixtures/full-listener.ts")], { stdout: "pipe" });
  cleanups.push(() => child.kill("SIGKILL"));
  const { value } = await child.stdout.getReader().read();
  const port = Number(new TextDecoder().decode(value));
  const queuedSockets: Socket[] = [];
  for (let n = 0; n < QUEUED_CONNECTIONS; n += 1) queuedSockets.push(connect(port, "127.0.0.1").on("error", () => {}));
  cleanups.push(() => {
    for (const socket of queuedSockets) socket.destroy();
  });
  await Bun.sleep(500);
  return { port, child };
}

const countDescriptors = () => readdirSync(process.platform === "linux" ? "/proc/self/fd" : "/dev/fd").length;

test("connections to an unresponsive server don't accumulate, and a refused connection is reported", async () => {
  const { port, child } = await startHangingServer();
  const send = createGuardedSender();
  const sendRequest = (timeoutMs: number) =>
    send({
      ...{ url: new URL(`http://127.0.0.1:${port}/`), method: "POST", headers: {}, body: "{}" },
      ...{ timeoutMs, responseBytesMax: 10, allowPrivate: true },
    }).then(
      () => "response received",
      (error: Error) => error.message,
    );

  const descriptorsBefore = countDescriptors();
  for (let round = 0; round < ROUNDS; round += 1)
    for (const outcome of await Promise.all(Array.from({ length: SENDS_PER_ROUND }, () => sendRequest(300))))
      expect(outcome).toBe("No response within 0.3 seconds.");
  expect(countDescriptors() - descriptorsBefore).toBeLessThanOrEqual(SENDS_PER_ROUND + 5);

  // After the server is killed, the system refuses connections.
  child.kill("SIGKILL");
  expect(await sendRequest(20_000)).toBe(`127.0.0.1:${port} refused the connection.`);
});
