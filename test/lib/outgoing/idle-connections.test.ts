import { afterAll, afterEach, expect, setSystemTime, spyOn, test } from "bun:test";
import { type IncomingResponse, sendRequest } from "../../../src/lib/http-client/client.ts";
import { createConnectionPool, IDLE_MS_MAX, type PoolLimits } from "../../../src/lib/http-client/connection-pool.ts";
import { prepareRequest } from "../../../src/lib/http-client/prepared-request.ts";
import { formatResponse, type Receiver, startReceiver } from "./receiver.ts";

const stops: (() => void)[] = [];
afterAll(() => {
  for (const stop of stops) stop();
});
afterEach(() => {
  setSystemTime();
});

function listen(): Receiver {
  // Responds with a delay, so that concurrent requests need separate connections.
  const receiver = startReceiver((socket) => void setTimeout(() => socket.write(formatResponse("200 OK", "")), 20));
  stops.push(receiver.stop);
  return receiver;
}

const readAll = ({ body }: IncomingResponse): Promise<void> =>
  new Promise((resolve) => body.listen({ onBytes: () => {}, onEnd: () => resolve() }));

function createClient(limits: PoolLimits) {
  const pool = createConnectionPool(limits);
  return (receiver: Receiver, requestCount: number) => {
    const url = new URL(`http://127.0.0.1:${receiver.port}/`);
    const request = prepareRequest({ url, method: "POST", headers: new Headers() });
    return Promise.all(
      Array.from({ length: requestCount }, () => sendRequest(request, "", { signal: null, pool }).then(readAll)),
    );
  };
}

/** Returns the number of open connections, after the surplus ones have been closed. */
async function countOpen(...receivers: Receiver[]): Promise<number[]> {
  await Bun.sleep(100);
  return receivers.map(({ connectionCount, closedCount }) => connectionCount - closedCount);
}

test("a limited number of idle connections per server stay open", async () => {
  const receiver = listen();
  await createClient({ idlePerServerMax: 2, idleMax: 100 })(receiver, 5);
  expect(receiver.connectionCount).toBe(5);
  expect(await countOpen(receiver)).toEqual([2]);
});

test("a limited number of idle connections to all servers stay open, and using one frees its slot", async () => {
  const [first, second] = [listen(), listen()];
  const send = createClient({ idlePerServerMax: 10, idleMax: 3 });
  await send(first, 2);
  await send(second, 4);
  expect(await countOpen(first, second)).toEqual([2, 1]);
  await send(first, 2);
  expect(first.connectionCount).toBe(2);
  expect(await countOpen(first, second)).toEqual([2, 1]);
});

test("idle connections are closed after a while", async () => {
  const realSetTimeout = globalThis.setTimeout;
  const sweeps: (() => void)[] = [];
  const timers = spyOn(globalThis, "setTimeout").mockImplementation(((work: () => void, ms: number) => {
    if (ms !== IDLE_MS_MAX) return realSetTimeout(work, ms);
    sweeps.push(work);
    return { unref() {} };
  }) as typeof setTimeout);
  try {
    const receiver = listen();
    await createClient({ idlePerServerMax: 10, idleMax: 10 })(receiver, 3);
    expect(await countOpen(receiver)).toEqual([3]);
    expect(sweeps).toHaveLength(1);
    sweeps.shift()?.();
    // The connections haven't been idle long enough, so the timer is set again.
    expect(await countOpen(receiver)).toEqual([3]);
    expect(sweeps).toHaveLength(1);
    setSystemTime(Date.now() + IDLE_MS_MAX + 1_000);
    sweeps.shift()?.();
    expect(await countOpen(receiver)).toEqual([0]);
    expect(sweeps).toHaveLength(0);
  } finally {
    timers.mockRestore();
  }
});
