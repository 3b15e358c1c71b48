import { afterAll, expect, spyOn, test } from "bun:test";
import { OutgoingError, RefusedAddressError } from "../../../src/lib/outgoing/errors.ts";
import { createTargetResolver, LOOKUP_MS_MAX } from "../../../src/lib/outgoing/resolve-target.ts";
import { createGuardedSender, type GuardedResponse } from "../../../src/lib/outgoing/send-guarded.ts";
import { receive, request, respond } from "./receiver.ts";

const stops: (() => void)[] = [];
afterAll(() => {
  for (const stop of stops) stop();
});

function listen(...args: Parameters<typeof receive>) {
  const receiver = receive(...args);
  stops.push(receiver.stop);
  return receiver;
}

const ok = () => listen((socket) => void socket.write(respond("200 OK", "thanks")));
/** Sends with every name resolving to these addresses. */
const sendTo = (...addresses: string[]) => createGuardedSender(async () => addresses);
const textOf = ({ body }: GuardedResponse) => Buffer.from(body).toString();

/** The outcome of a failed request: error class and message. */
const failed = (sending: Promise<unknown>) =>
  sending.then(
    () => ["no error", ""],
    (error) => [error.constructor.name, error.message],
  );

test("connects to the resolved and checked address, and to no other", async () => {
  const receiver = ok();
  const url = `http://hooks.test:${receiver.port}/in?a=b`;
  const response = await sendTo("127.0.0.1")(request(url));
  expect([response.status, textOf(response)]).toEqual([200, "thanks"]);
  expect(response.durationMs).toBeGreaterThan(0);
  expect(receiver.requests[0]).toStartWith("POST /in?a=b HTTP/1.1\r\n");
  expect(receiver.requests[0]).toContain(`\r\nhost: hooks.test:${receiver.port}\r\n`);
  // The same name, resolved to an address where nothing listens.
  const [kind] = await failed(sendTo("192.0.2.1")(request(url, { timeoutMs: 300 })));
  expect([kind, receiver.connections]).toEqual(["OutgoingError", 1]);
});

test("resolves a name once per request, however often its addresses change", async () => {
  const receiver = ok();
  let lookups = 0;
  const send = createGuardedSender(async () => {
    lookups += 1;
    return lookups === 1 ? ["192.0.2.1"] : ["127.0.0.1"];
  });
  await failed(send(request(`http://hooks.test:${receiver.port}/`, { timeoutMs: 300 })));
  expect([lookups, receiver.connections]).toEqual([1, 0]);
});

test("refuses a name that is first public and then private from the second lookup on", async () => {
  const answers = [["8.8.8.8"], ["127.0.0.1"], ["8.8.8.8", "127.0.0.1"]];
  const resolve = createTargetResolver(async () => answers.shift() ?? []);
  let nowMs = 0;
  const clock = spyOn(performance, "now").mockImplementation(() => nowMs);
  try {
    expect(await resolve("rebind.test", false)).toEqual(["8.8.8.8"]);
    nowMs = LOOKUP_MS_MAX - 1;
    expect(await resolve("rebind.test", false)).toEqual(["8.8.8.8"]);
    for (let n = 1; n <= 2; n += 1) {
      nowMs = n * LOOKUP_MS_MAX;
      await expect(resolve("rebind.test", false)).rejects.toBeInstanceOf(RefusedAddressError);
    }
    expect(answers).toEqual([]);
  } finally {
    clock.mockRestore();
  }
});

test("does not reuse a connection to an address that the name no longer has", async () => {
  const receiver = ok();
  let address = "127.0.0.1";
  const send = createGuardedSender(async () => [address]);
  const url = `http://hooks.test:${receiver.port}/`;
  for (let n = 0; n < 3; n += 1) {
    await send(request(url));
    await Bun.sleep(5);
  }
  expect(receiver.connections).toBe(1);
  address = "192.0.2.1";
  const clock = spyOn(performance, "now").mockImplementation(() => Number.MAX_SAFE_INTEGER);
  try {
    expect(await failed(send(request(url, { timeoutMs: 300 })))).toEqual(["OutgoingError", expect.any(String)]);
  } finally {
    clock.mockRestore();
  }
  expect(receiver.requests).toHaveLength(3);
});

test("never connects to a port of a non-public address: open ones look like closed ones", async () => {
  const receiver = ok();
  const seen = new Set<string>();
  for (const port of [receiver.port, 1]) {
    const hosts = [`127.0.0.1:${port}`, `2130706433:${port}`, `localhost:${port}`, `[::ffff:127.0.0.1]:${port}`];
    for (const host of hosts) {
      const [kind, message] = await failed(sendTo("8.8.8.8")(request(`http://${host}/`, { allowsPrivate: false })));
      expect([kind, message]).toEqual(["RefusedAddressError", expect.stringContaining("is not a public address")]);
    }
    for (const addresses of [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["::1"], ["fe80::1%lo"], ["nonsense"]]) {
      const sending = sendTo(...addresses)(request(`http://hooks.test:${port}/`, { allowsPrivate: false }));
      const [kind, message] = await failed(sending);
      expect(kind).toBe("RefusedAddressError");
      seen.add(message);
    }
  }
  expect([...seen]).toEqual(["hooks.test does not resolve to a public address."]);
  expect(receiver.connections).toBe(0);
});

test("reports an unknown name like one of the private network", async () => {
  const send = createGuardedSender(() => Promise.reject(new Error("ENOTFOUND")));
  const url = "http://db.internal.test/";
  const message = "db.internal.test does not resolve to a public address.";
  expect(await failed(send(request(url, { allowsPrivate: false })))).toEqual(["OutgoingError", message]);
  expect(await failed(sendTo("10.0.0.1")(request(url, { allowsPrivate: false })))).toEqual([
    "RefusedAddressError",
    message,
  ]);
  expect(await failed(send(request(url)))).toEqual([
    "OutgoingError",
    "The name db.internal.test could not be resolved.",
  ]);
});

test("repeats a failed lookup for the next request", async () => {
  const receiver = ok();
  let lookups = 0;
  const send = createGuardedSender(async () => {
    lookups += 1;
    if (lookups === 1) throw new Error("SERVFAIL");
    return ["127.0.0.1"];
  });
  const url = `http://hooks.test:${receiver.port}/`;
  await expect(send(request(url))).rejects.toBeInstanceOf(OutgoingError);
  expect((await send(request(url))).status).toBe(200);
});

test("refuses invalid target URLs before any lookup", async () => {
  let lookups = 0;
  const send = createGuardedSender(async () => {
    lookups += 1;
    return ["127.0.0.1"];
  });
  for (const url of ["ftp://hooks.test/", "http://user:pw@hooks.test/", "http://hooks.test/#x", "http://hooks.test:0/"])
    await expect(send(request(url))).rejects.toBeInstanceOf(RefusedAddressError);
  expect(lookups).toBe(0);
});

test("uses the next address of a name if one is unreachable", async () => {
  const receiver = ok();
  const send = sendTo("127.0.0.2", "127.0.0.1");
  expect((await send(request(`http://hooks.test:${receiver.port}/`))).status).toBe(200);
});

test("does not send a request again to the next address once it was sent", async () => {
  const receiver = listen((socket) => socket.terminate());
  const send = sendTo("127.0.0.1", "127.0.0.1");
  expect(await failed(send(request(`http://hooks.test:${receiver.port}/`)))).toEqual([
    "OutgoingError",
    `hooks.test:${receiver.port} closed the connection without a response.`,
  ]);
  expect(receiver.requests).toHaveLength(1);
});

test("resolves the names of this machine with its resolver", async () => {
  const receiver = ok();
  const url = `http://localhost:${receiver.port}/`;
  expect((await createGuardedSender()(request(url))).status).toBe(200);
  expect(await failed(createGuardedSender()(request(url, { allowsPrivate: false })))).toEqual([
    "RefusedAddressError",
    "localhost is not a public address. Only public addresses can be called.",
  ]);
});

test("reuses connections for the next request", async () => {
  const receiver = ok();
  const send = sendTo("127.0.0.1");
  for (let n = 0; n < 10; n += 1) {
    await send(request(`http://hooks.test:${receiver.port}/${n}`, { body: Buffer.from(`{"n":${n}}`) }));
    await Bun.sleep(2);
  }
  expect([receiver.connections, receiver.requests.length]).toEqual([1, 10]);
  expect(receiver.requests[9]).toEndWith('\r\n\r\n{"n":9}');
});
