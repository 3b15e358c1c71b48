import { afterAll, afterEach, expect, setSystemTime, spyOn, test } from "bun:test";
import { type IncomingResponse, sendRequest } from "../../../src/lib/http-client/client.ts";
import { createConnectionPool, IDLE_MS_MAX, type PoolLimits } from "../../../src/lib/http-client/connection-pool.ts";
import { prepareRequest } from "../../../src/lib/http-client/prepared-request.ts";
import { formatResponse, type Receiver, startReceiver } from "./receiver.ts";

const cleanups: (() => void)[] = [];
afterAll(() => {
  for (const cleanUp of cleanups) cleanUp();
});
afterEach(() => {
  setSystemTime();
});

function openReceiver(): Receiver {
  // Responds with a delay, so that concurrent requests need separate connections.
  const receiver = startReceiver((socket) => void setTimeout(() => socket.write(formatResponse("200 OK", "")), 20));
  cleanups.push(receiver.stop);
  return receiver;
}

const readAll = ({ body }: IncomingResponse): Promise<void> =>
  new Promise((resolve) => body.listen({ onBytes: () => {}, onEnd: () => resolve() }));

function createRequestSender(limits: PoolLimits) {
  const pool = createConnectionPool(limits);
  return (receiver: Receiver, requestCount: number) => {
    const url = new URL(`http://127.0.0.1:${receiver.port}/`);
    const request = prepareRequest({ url, method: "POST", headers: new Headers() });
    return Promise.all(
      Array.from({ length: requestCount }, () => sendRequest(request, "", { signal: null, pool }).then(readAll)),
    );
  };
}

/** Counts the open connections of each receiver after surplus connections have been closed. */
async function countOpenConnections(...receivers: Receiver[]): Promise<number[]> {
  await Bun.sleep(100);
  return receivers.map(({ connectionCount, closedCount }) => connectionCount - closedCount);
}

test("a limited number of idle connections per server stay open", async () => {
  const receiver = openReceiver();
  await createRequestSender({ idlePerServerMax: 2, idleMax: 100 })(receiver, 5);
  expect(receiver.connectionCount).toBe(5);
  expect(await countOpenConnections(receiver)).toEqual([2]);
});

test("a limited number of idle connections to all servers stay open, and using one of them frees its slot", async () => {
  const [firstReceiver, secondReceiver] = [openReceiver(), openReceiver()];
  const sendRequests = createRequestSender({ idlePerServerMax: 10, idleMax: 3 });
  await sendRequests(firstReceiver, 2);
  await sendRequests(secondReceiver, 4);
  expect(await countOpenConnections(firstReceiver, secondReceiver)).toEqual([2, 1]);
  await sendRequests(firstReceiver, 2);
  expect(firstReceiver.connectionCount).toBe(2);
  expect(await countOpenConnections(firstReceiver, secondReceiver)).toEqual([2, 1]);
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
    const receiver = openReceiver();
    await createRequestSender({ idlePerServerMax: 10, idleMax: 10 })(receiver, 3);
    expect(await countOpenConnections(receiver)).toEqual([3]);
    expect(sweeps).toHaveLength(1);
    sweeps.shift()?.();
    // The connections haven't been idle long enough, so the timer is set again.
    expect(await countOpenConnections(receiver)).toEqual([3]);
    expect(sweeps).toHaveLength(1);
    setSystemTime(Date.now() + IDLE_MS_MAX + 1_000);
    sweeps.shift()?.();
    expect(await countOpenConnections(receiver)).toEqual([0]);
    expect(sweeps).toHaveLength(0);
  } finally {
    timers.mockRestore();
  }
});
