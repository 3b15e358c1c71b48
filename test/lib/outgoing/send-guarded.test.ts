import { afterAll, expect, spyOn, test } from "bun:test";
import { OutgoingError, RejectedAddressError } from "../../../src/lib/outgoing/errors.ts";
import { createTargetResolver, LOOKUP_CACHE_MS_MAX } from "../../../src/lib/outgoing/resolve-target.ts";
import { createGuardedSender, type GuardedResponse } from "../../../src/lib/outgoing/send-guarded.ts";
import { createRequest, formatResponse, startReceiver } from "./receiver.ts";

const cleanups: (() => void)[] = [];
afterAll(() => {
  for (const cleanUp of cleanups) cleanUp();
});

function openReceiver(...args: Parameters<typeof startReceiver>) {
  const receiver = startReceiver(...args);
  cleanups.push(receiver.stop);
  return receiver;
}

const openThankingReceiver = () => openReceiver((socket) => void socket.write(formatResponse("200 OK", "thanks")));
/** Creates a sender for which every name resolves to these addresses. */
const createSenderTo = (...addresses: string[]) => createGuardedSender(async () => addresses);
const getText = ({ body }: GuardedResponse) => Buffer.from(body).toString();

/** Returns the class and message of the error with which a request fails. */
const getError = (sendPromise: Promise<unknown>) =>
  sendPromise.then(
    () => ["no error", ""],
    (error) => [error.constructor.name, error.message],
  );

test("a request connects only to the resolved and checked address", async () => {
  const receiver = openThankingReceiver();
  const url = `http://hooks.test:${receiver.port}/in?a=b`;
  const response = await createSenderTo("127.0.0.1")(createRequest(url));
  expect([response.status, getText(response)]).toEqual([200, "thanks"]);
  expect(response.durationMs).toBeGreaterThan(0);
  expect(receiver.requests[0]).toStartWith("POST /in?a=b HTTP/1.1\r\n");
  expect(receiver.requests[0]).toContain(`\r\nhost: hooks.test:${receiver.port}\r\n`);
  // This time, the name resolves to an address at which nothing listens.
  const [kind] = await getError(createSenderTo("192.0.2.1")(createRequest(url, { timeoutMs: 300 })));
  expect([kind, receiver.connectionCount]).toEqual(["OutgoingError", 1]);
});

test("a name is resolved once per request, even if its addresses change", async () => {
  const receiver = openThankingReceiver();
  let lookupCount = 0;
  const send = createGuardedSender(async () => {
    lookupCount += 1;
    return lookupCount === 1 ? ["192.0.2.1"] : ["127.0.0.1"];
  });
  await getError(send(createRequest(`http://hooks.test:${receiver.port}/`, { timeoutMs: 300 })));
  expect([lookupCount, receiver.connectionCount]).toEqual([1, 0]);
});

test("a name is rejected as soon as a lookup returns a private address", async () => {
  const lookupResults = [["8.8.8.8"], ["127.0.0.1"], ["8.8.8.8", "127.0.0.1"]];
  const resolve = createTargetResolver(async () => lookupResults.shift() ?? []);
  let nowMs = 0;
  const clock = spyOn(performance, "now").mockImplementation(() => nowMs);
  try {
    expect(await resolve("rebind.test", false)).toEqual(["8.8.8.8"]);
    nowMs = LOOKUP_CACHE_MS_MAX - 1;
    expect(await resolve("rebind.test", false)).toEqual(["8.8.8.8"]);
    for (let n = 1; n <= 2; n += 1) {
      nowMs = n * LOOKUP_CACHE_MS_MAX;
      await expect(resolve("rebind.test", false)).rejects.toBeInstanceOf(RejectedAddressError);
    }
    expect(lookupResults).toEqual([]);
  } finally {
    clock.mockRestore();
  }
});

test("a connection isn't reused if the name no longer resolves to its address", async () => {
  const receiver = openThankingReceiver();
  let address = "127.0.0.1";
  const send = createGuardedSender(async () => [address]);
  const url = `http://hooks.test:${receiver.port}/`;
  for (let n = 0; n < 3; n += 1) {
    await send(createRequest(url));
    await Bun.sleep(5);
  }
  expect(receiver.connectionCount).toBe(1);
  address = "192.0.2.1";
  const clock = spyOn(performance, "now").mockImplementation(() => Number.MAX_SAFE_INTEGER);
  try {
    expect(await getError(send(createRequest(url, { timeoutMs: 300 })))).toEqual(["OutgoingError", expect.any(String)]);
  } finally {
    clock.mockRestore();
  }
  expect(receiver.requests).toHaveLength(3);
});

test("open and closed ports can't be distinguished on a non-public address, because no request connects to such an address", async () => {
  const receiver = openThankingReceiver();
  const messages = new Set<string>();
  for (const port of [receiver.port, 1]) {
    const hosts = [`127.0.0.1:${port}`, `2130706433:${port}`, `localhost:${port}`, `[::ffff:127.0.0.1]:${port}`];
    for (const host of hosts) {
      const [kind, message] = await getError(
        createSenderTo("8.8.8.8")(createRequest(`http://${host}/`, { allowPrivate: false })),
      );
      expect([kind, message]).toEqual(["RejectedAddressError", expect.stringContaining("is not a public address")]);
    }
    for (const addresses of [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["::1"], ["fe80::1%lo"], ["nonsense"]]) {
      const sendPromise = createSenderTo(...addresses)(
        createRequest(`http://hooks.test:${port}/`, { allowPrivate: false }),
      );
      const [kind, message] = await getError(sendPromise);
      expect(kind).toBe("RejectedAddressError");
      messages.add(message);
    }
  }
  expect([...messages]).toEqual(["hooks.test does not resolve to a public address."]);
  expect(receiver.connectionCount).toBe(0);
});

test("the error for an unknown name is the same as for a name in the private network", async () => {
  const send = createGuardedSender(() => Promise.reject(new Error("ENOTFOUND")));
  const url = "http://db.internal.test/";
  const message = "db.internal.test does not resolve to a public address.";
  expect(await getError(send(createRequest(url, { allowPrivate: false })))).toEqual(["OutgoingError", message]);
  expect(await getError(createSenderTo("10.0.0.1")(createRequest(url, { allowPrivate: false })))).toEqual([
    "RejectedAddressError",
    message,
  ]);
  expect(await getError(send(createRequest(url)))).toEqual([
    "OutgoingError",
    "The name db.internal.test could not be resolved.",
  ]);
});

test("a failed lookup is repeated for the next request", async () => {
  const receiver = openThankingReceiver();
  let lookupCount = 0;
  const send = createGuardedSender(async () => {
    lookupCount += 1;
    if (lookupCount === 1) throw new Error("SERVFAIL");
    return ["127.0.0.1"];
  });
  const url = `http://hooks.test:${receiver.port}/`;
  await expect(send(createRequest(url))).rejects.toBeInstanceOf(OutgoingError);
  expect((await send(createRequest(url))).status).toBe(200);
});

test("an invalid target URL is rejected before any lookup", async () => {
  let lookupCount = 0;
  const send = createGuardedSender(async () => {
    lookupCount += 1;
    return ["127.0.0.1"];
  });
  for (const url of ["ftp://hooks.test/", "http://user:pw@hooks.test/", "http://hooks.test/#x", "http://hooks.test:0/"])
    await expect(send(createRequest(url))).rejects.toBeInstanceOf(RejectedAddressError);
  expect(lookupCount).toBe(0);
});

test("the next address of a name is used if the previous address is unreachable", async () => {
  const receiver = openThankingReceiver();
  const send = createSenderTo("127.0.0.2", "127.0.0.1");
  expect((await send(createRequest(`http://hooks.test:${receiver.port}/`))).status).toBe(200);
});

test("a request that was already sent isn't sent to the next address", async () => {
  const receiver = openReceiver((socket) => socket.terminate());
  const send = createSenderTo("127.0.0.1", "127.0.0.1");
  expect(await getError(send(createRequest(`http://hooks.test:${receiver.port}/`)))).toEqual([
    "OutgoingError",
    `hooks.test:${receiver.port} closed the connection without a response.`,
  ]);
  expect(receiver.requests).toHaveLength(1);
});

test("the system's resolver is used by default", async () => {
  const receiver = openThankingReceiver();
  const url = `http://localhost:${receiver.port}/`;
  expect((await createGuardedSender()(createRequest(url))).status).toBe(200);
  expect(await getError(createGuardedSender()(createRequest(url, { allowPrivate: false })))).toEqual([
    "RejectedAddressError",
    "localhost is not a public address. Only public addresses can be called.",
  ]);
});

test("connections are reused for the next request", async () => {
  const receiver = openThankingReceiver();
  const send = createSenderTo("127.0.0.1");
  for (let n = 0; n < 10; n += 1) {
    await send(createRequest(`http://hooks.test:${receiver.port}/${n}`, { body: Buffer.from(`{"n":${n}}`) }));
    await Bun.sleep(2);
  }
  expect([receiver.connectionCount, receiver.requests.length]).toEqual([1, 10]);
  expect(receiver.requests[9]).toEndWith('\r\n\r\n{"n":9}');
});
