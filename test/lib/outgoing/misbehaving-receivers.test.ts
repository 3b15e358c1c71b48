import { afterAll, expect, test } from "bun:test";
import { join } from "node:path";
import type { Socket } from "bun";
import { OutgoingError } from "../../../src/lib/outgoing/errors.ts";
import { createGuardedSender } from "../../../src/lib/outgoing/send-guarded.ts";
import { createCertificates } from "../../support/certificates.ts";
import { createRequest, formatResponse, type Receiver, startReceiver } from "./receiver.ts";

const cleanups: (() => void)[] = [];
afterAll(() => {
  for (const cleanUp of cleanups) cleanUp();
});

function openReceiver(...args: Parameters<typeof startReceiver>): Receiver {
  const receiver = startReceiver(...args);
  cleanups.push(receiver.stop);
  return receiver;
}

const sendGuarded = createGuardedSender(async () => ["127.0.0.1"]);
const TIMEOUT_MS = 400;

async function getOutcome(receiver: Receiver, options: Parameters<typeof createRequest>[1] = {}) {
  const startedAtMs = performance.now();
  const url = `http://hooks.test:${receiver.port}/`;
  const result = await sendGuarded(createRequest(url, { timeoutMs: TIMEOUT_MS, ...options })).then(
    ({ status, body }) => ({ status, body: Buffer.from(body).toString() }),
    (error) => (error instanceof OutgoingError ? error.message : error),
  );
  return { result, ms: performance.now() - startedAtMs };
}

/** Waits until the receiver's connections are closed. */
async function expectConnectionsClosed(receiver: Receiver): Promise<void> {
  for (let n = 0; n < 200 && receiver.closedCount < receiver.connectionCount; n += 1) await Bun.sleep(5);
  expect([receiver.closedCount, receiver.connectionCount]).toEqual([
    receiver.connectionCount,
    receiver.connectionCount,
  ]);
}

/** Writes a chunk every few milliseconds until the connection is closed. */
function writeRepeatedly(socket: Socket, chunk: string, intervalMs = 20): void {
  const timer = setInterval(() => {
    if (socket.readyState > 0) socket.write(chunk);
    else clearInterval(timer);
  }, intervalMs);
}

const timeoutMessage = "No response within 0.4 seconds.";
const slowReceivers: [name: string, respond: (socket: Socket) => void][] = [
  ["never responds", () => {}],
  ["sends its status byte by byte", (socket) => writeRepeatedly(socket, "H")],
  [
    "sends headers slowly",
    (socket) => {
      socket.write("HTTP/1.1 200 OK\r\n");
      writeRepeatedly(socket, "X-More: 1\r\n");
    },
  ],
  ["sends endless interim responses", (socket) => writeRepeatedly(socket, "HTTP/1.1 103 Early Hints\r\n\r\n")],
];
for (const [name, respond] of slowReceivers)
  test(`a request to a receiver that ${name} times out`, async () => {
    const receiver = openReceiver(respond);
    const { result, ms } = await getOutcome(receiver);
    expect(result).toBe(timeoutMessage);
    expect(ms).toBeLessThan(TIMEOUT_MS + 400);
    await expectConnectionsClosed(receiver);
  });

test("a slow body is truncated at the timeout, and its response is returned", async () => {
  const receiver = openReceiver((socket) => {
    socket.write("HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n");
    writeRepeatedly(socket, "1\r\nx\r\n");
  });
  const { result, ms } = await getOutcome(receiver);
  expect(result).toEqual({ status: 201, body: expect.stringMatching(/^x+$/) });
  expect(ms).toBeWithin(TIMEOUT_MS - 5, TIMEOUT_MS + 400);
  await expectConnectionsClosed(receiver);
});

test("only the first bytes of a 10 MB response are read, and the connection is closed", async () => {
  const receiver = openReceiver((socket) => void socket.write(formatResponse("500 Oops", "y".repeat(10_000_000))));
  const { result } = await getOutcome(receiver, { responseBytesMax: 1_000 });
  expect(result).toEqual({ status: 500, body: "y".repeat(1_000) });
  await expectConnectionsClosed(receiver);
});

test("a connection is reused after a body of the maximum size", async () => {
  const receiver = openReceiver((socket) => void socket.write(formatResponse("200 OK", "z".repeat(1_000))));
  for (let n = 0; n < 2; n += 1) {
    await getOutcome(receiver, { responseBytesMax: 1_000 });
    await Bun.sleep(5);
  }
  expect(receiver.connectionCount).toBe(1);
});

test("redirects are returned, not followed", async () => {
  const redirectTarget = openReceiver((socket) => void socket.write(formatResponse("200 OK", "followed")));
  for (const status of [301, 302, 303, 307, 308]) {
    const location = `Location: http://127.0.0.1:${redirectTarget.port}/`;
    const receiver = openReceiver((socket) => void socket.write(formatResponse(`${status} Moved\r\n${location}`, "")));
    expect((await getOutcome(receiver)).result).toEqual({ status, body: "" });
  }
  expect(redirectTarget.connectionCount).toBe(0);
});

const invalidResponses: [name: string, bytes: string][] = [
  ["a different protocol", "220 mail.example.com ESMTP\r\n\r\n"],
  ["headers above 16 KB", `HTTP/1.1 200 OK\r\n${"X-Much: 0123456789\r\n".repeat(1_000)}\r\n`],
  ["an endless header", `HTTP/1.1 200 OK\r\nX-Much: ${"a".repeat(20_000)}`],
  ["a protocol upgrade", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"],
];
for (const [name, bytes] of invalidResponses)
  test(`a receiver that sends ${name} causes an immediate error with Parley's own message`, async () => {
    const receiver = openReceiver((socket) => void socket.write(bytes));
    const { result } = await getOutcome(receiver);
    expect(result).toBe(`hooks.test:${receiver.port} sent a response that is not valid HTTP/1.1.`);
    await expectConnectionsClosed(receiver);
  });

test("a reset connection and a refused connection are reported", async () => {
  const receiver = openReceiver((socket) => socket.terminate());
  expect((await getOutcome(receiver)).result).toBe(
    `hooks.test:${receiver.port} closed the connection without a response.`,
  );
  receiver.stop();
  expect((await getOutcome(receiver)).result).toBe(`hooks.test:${receiver.port} refused the connection.`);
});

test("if the body is incomplete, the received part is returned", async () => {
  const receiver = openReceiver((socket) => {
    socket.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    socket.end();
  });
  expect((await getOutcome(receiver)).result).toEqual({ status: 200, body: "half" });
});

test("a DNS lookup that exceeds the timeout is aborted", async () => {
  const sendWithoutDns = createGuardedSender(() => new Promise(() => {}));
  await expect(sendWithoutDns(createRequest("http://hooks.test/", { timeoutMs: 50 }))).rejects.toThrow(
    "within 0.05 seconds",
  );
});

test("the caller's signal aborts a request with the signal's reason", async () => {
  const receiver = openReceiver(() => {});
  const controller = new AbortController();
  const reason = new Error("shutdown");
  const url = `http://hooks.test:${receiver.port}/`;
  const sendPromise = sendGuarded(createRequest(url, { signal: controller.signal }));
  setTimeout(() => controller.abort(reason), 30);
  await expect(sendPromise).rejects.toBe(reason);
  await expectConnectionsClosed(receiver);
  await expect(sendGuarded(createRequest(url, { signal: controller.signal }))).rejects.toBe(reason);
});

test("over TLS, the certificate must match the host name, and no proxy is used", async () => {
  const certificates = createCertificates();
  cleanups.push(certificates.remove);
  const { certFile, cert, key } = certificates.create("hooks.test");
  const receiver = openReceiver((socket) => void socket.write(formatResponse("200 OK", "secure")), { cert, key });
  const proxy = openReceiver((socket) => void socket.write(formatResponse("200 OK", "by proxy")));
  const program = join(import.meta.dir, "fixtures/probe.ts");
  const proxyUrl = `http://127.0.0.1:${proxy.port}`;
  const runProbe = async (host: string, caFile: string | undefined) => {
    const child = Bun.spawn([process.execPath, program, "127.0.0.1", `https://${host}:${receiver.port}/`], {
      env: { ...process.env, HTTPS_PROXY: proxyUrl, HTTP_PROXY: proxyUrl, NODE_EXTRA_CA_CERTS: caFile },
    });
    return (await new Response(child.stdout).text()).trim();
  };
  expect(await runProbe("hooks.test", certFile)).toBe("200 secure");
  expect(await runProbe("hooks.test.", certFile)).toBe("200 secure");
  for (const [host, caFile] of [
    ["other.test", certFile],
    ["hooks.test", undefined],
    ["127.0.0.1", certFile],
  ] as const)
    expect(await runProbe(host, caFile)).toBe(
      `OutgoingError: The TLS certificate of ${host}:${receiver.port} is not trusted.`,
    );
  expect([receiver.requests.length, proxy.connectionCount]).toEqual([2, 0]);
});
