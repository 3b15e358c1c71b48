import { afterEach, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { createGuardedSender } from "../../../src/lib/outgoing/send-guarded.ts";

/** More connections than fit in the backlog of a listener. */
const QUEUED = 600;
const ROUNDS = 3;
const SENDS = 16;

const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

/** A port whose connections hang, like those to a server that drops packets. */
async function startHanging() {
  const child = Bun.spawn([process.execPath, join(import.meta.dir, "fixtures/full-listener.ts")], { stdout: "pipe" });
  ends.push(() => child.kill("SIGKILL"));
  const { value } = await child.stdout.getReader().read();
  const port = Number(new TextDecoder().decode(value));
  const queued: Socket[] = [];
  for (let n = 0; n < QUEUED; n += 1) queued.push(connect(port, "127.0.0.1").on("error", () => {}));
  ends.push(() => {
    for (const socket of queued) socket.destroy();
  });
  await Bun.sleep(500);
  return { port, child };
}

const countDescriptors = () => readdirSync(process.platform === "linux" ? "/proc/self/fd" : "/dev/fd").length;

test("connections to an unresponsive server do not pile up; once it refuses them, that is reported", async () => {
  const { port, child } = await startHanging();
  const send = createGuardedSender();
  const attempt = (timeoutMs: number) =>
    send({
      ...{ url: new URL(`http://127.0.0.1:${port}/`), method: "POST", headers: {}, body: "{}" },
      ...{ timeoutMs, responseBytesMax: 10, allowsPrivate: true },
    }).then(
      () => "answered",
      (error: Error) => error.message,
    );

  const before = countDescriptors();
  for (let round = 0; round < ROUNDS; round += 1)
    for (const outcome of await Promise.all(Array.from({ length: SENDS }, () => attempt(300))))
      expect(outcome).toBe("No response within 0.3 seconds.");
  expect(countDescriptors() - before).toBeLessThanOrEqual(SENDS + 5);

  // The system's next SYN is refused now.
  child.kill("SIGKILL");
  expect(await attempt(20_000)).toBe(`127.0.0.1:${port} refused the connection.`);
});
