import { afterAll, expect, setSystemTime, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sendRequest } from "../../src/lib/http-client/client.ts";
import { IDLE_MS_MAX } from "../../src/lib/http-client/connection-pool.ts";
import { prepareRequest } from "../../src/lib/http-client/prepared-request.ts";
import { post, readAll, startRawServer, waitUntilReusable } from "./raw-server.ts";

/** The number of concurrent requests: more than Bun's `fetch` would run. */
const CONCURRENT_REQUESTS = 400;

const cleanups: (() => unknown)[] = [];
afterAll(async () => {
  for (const cleanUp of cleanups) await cleanUp();
});

/** Starts a server that is stopped after the tests. */
function startServer(respond: Parameters<typeof startRawServer>[0]) {
  const server = startRawServer(respond);
  cleanups.push(server.stop);
  return server;
}

test("a connection is reused for consecutive requests", async () => {
  const server = startServer((socket) => void socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
  for (let n = 0; n < 5; n += 1) {
    expect(await readAll(await post(server.url))).toEqual({ text: "ok", error: null });
    await waitUntilReusable();
  }
  expect(server.connections).toBe(1);
});

test("a connection isn't reused if the server wants to close it or its response was aborted", async () => {
  const server = startServer((socket, request) => {
    const isLast = request.includes("/last");
    socket.write(
      `HTTP/1.1 200 OK\r\n${isLast ? "Connection: close\r\n" : ""}Content-Length: 2\r\n\r\n${isLast ? "ok" : "o"}`,
    );
  });
  await readAll(await post(new URL("/last", server.url)));
  await readAll(await post(new URL("/last", server.url)));
  (await post(server.url)).body.abort();
  await readAll(await post(new URL("/last", server.url)));
  expect(server.connections).toBe(4);
});

test("a request succeeds after a response was aborted in its last packet", async () => {
  const server = startServer((socket) => {
    socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    setTimeout(() => socket.write("2\r\nok\r\n0\r\n\r\n"), 20);
  });
  const { body } = await post(server.url);
  const { promise: aborted, resolve } = Promise.withResolvers<void>();
  body.listen({
    onBytes() {
      body.abort();
      resolve();
    },
    onEnd: () => {},
  });
  await aborted;
  expect(await readAll(await post(server.url))).toEqual({ text: "ok", error: null });
  expect(server.connections).toBe(2);
});

test("a request contains the required headers, and its method can't inject any others", async () => {
  let request = "";
  const server = startServer((socket, text) => {
    request = text;
    socket.write("HTTP/1.1 204 No Content\r\n\r\n");
  });
  await post(new URL("/a%20b?c=d", server.url), "häl");
  expect(request).toStartWith("POST /a%20b?c=d HTTP/1.1\r\n");
  for (const field of [
    "content-length: 4",
    "accept-encoding: identity",
    `host: ${new URL(server.url).host}`,
    "x-own: yes",
  ])
    expect(request).toContain(`\r\n${field}\r\n`);
  const injected = { url: new URL(server.url), headers: new Headers(), method: "GET / HTTP/1.1\r\nX: y\r\n\r\nGET" };
  expect(() => prepareRequest(injected)).toThrow("method");
});

test("a prepared request can be sent with different bodies, each with the correct length", async () => {
  const lengthsAndBodies: [length: string | null, body: string][] = [];
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch(request) {
      lengthsAndBodies.push([request.headers.get("content-length"), await request.text()]);
      return new Response("ok");
    },
  });
  cleanups.push(() => server.stop(true));
  const headers = new Headers({ "content-length": "7" });
  const preparedRequest = prepareRequest({ url: server.url, method: "POST", headers });
  for (const body of ["häl", "世界 🚀", ""]) await readAll(await sendRequest(preparedRequest, body, { signal: null }));
  expect(lengthsAndBodies).toEqual([
    ["4", "häl"],
    ["11", "世界 🚀"],
    ["0", ""],
  ]);
});

test(`${CONCURRENT_REQUESTS} requests run concurrently`, async () => {
  let waitingRequests = 0;
  const allArrived = Promise.withResolvers<void>();
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch() {
      waitingRequests += 1;
      if (waitingRequests === CONCURRENT_REQUESTS) allArrived.resolve();
      await allArrived.promise;
      return new Response("ok");
    },
  });
  cleanups.push(() => server.stop(true));
  const responses = await Promise.all(
    Array.from({ length: CONCURRENT_REQUESTS }, () => post(server.url).then(readAll)),
  );
  expect(responses).toEqual(Array(CONCURRENT_REQUESTS).fill({ text: "ok", error: null }));
}, 10_000);

test("redirects aren't followed", async () => {
  const server = startServer((socket) => {
    socket.write("HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n");
  });
  const response = await post(server.url);
  expect([response.status, response.headers.get("location")]).toEqual([302, "/elsewhere"]);
});

test("aborting a request before its response closes the connection", async () => {
  const dataReceived = Promise.withResolvers<void>();
  const connectionClosed = Promise.withResolvers<void>();
  const server = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: { data: () => dataReceived.resolve(), close: () => connectionClosed.resolve() },
  });
  cleanups.push(() => server.stop(true));
  const url = `http://127.0.0.1:${server.port}/`;
  const reason = new Error("stopped");
  await expect(post(url, "", { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  const controller = new AbortController();
  const response = post(url, "", { signal: controller.signal });
  await dataReceived.promise;
  controller.abort(reason);
  await expect(response).rejects.toBe(reason);
  await connectionClosed.promise;
});

test("a request to an unreachable server fails", async () => {
  await expect(post("http://127.0.0.1:1/")).rejects.toThrow();
});

test("a request succeeds if the server has just closed the idle connection", async () => {
  const firstServer = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("first") });
  const { port, url } = firstServer;
  expect((await readAll(await post(url))).text).toBe("first");
  await Bun.sleep(5);
  await firstServer.stop(true);
  const secondServer = Bun.serve({ port: port ?? 0, hostname: "127.0.0.1", fetch: () => new Response("second") });
  cleanups.push(() => secondServer.stop(true));
  expect((await readAll(await post(url))).text).toBe("second");
});

test("a large request and a large response are transferred completely", async () => {
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch(request) {
      const text = await request.text();
      return new Response(`${text.length} ${text.slice(-5)}${"x".repeat(8_000_000)}`);
    },
  });
  cleanups.push(() => server.stop(true));
  const { text, error } = await readAll(await post(server.url, `${"y".repeat(5_000_000)}z`));
  expect([text.length, text.slice(0, 13), error]).toEqual([8_000_013, "5000001 yyyyz", null]);
});

test("the client stops receiving while the reader is paused", async () => {
  let pulledBytes = 0;
  const chunk = new Uint8Array(64 * 1024);
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: () =>
      new Response(
        new ReadableStream({
          pull(controller) {
            pulledBytes += chunk.byteLength;
            if (pulledBytes > 100_000_000) controller.close();
            else controller.enqueue(chunk);
          },
        }),
      ),
  });
  cleanups.push(() => server.stop(true));
  const response = await post(server.url);
  await Bun.sleep(300);
  const pulledBytesWhilePaused = pulledBytes;
  expect(pulledBytesWhilePaused).toBeLessThan(50_000_000);
  const { text, error } = await readAll(response);
  expect(error).toBeNull();
  expect(text.length).toBeGreaterThan(99_000_000);
});

const brokenResponses: [name: string, response: string, error: RegExp][] = [
  ["invalid HTTP", "SSH-2.0-OpenSSH\r\n\r\n", /status line/],
  ["a broken chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", /chunk size/],
];
for (const [name, response, error] of brokenResponses)
  test(`a response with ${name} fails`, async () => {
    const server = startServer((socket) => void socket.write(response));
    const outcome = await post(server.url).then(readAll, ({ message }) => ({ text: "", error: message }));
    expect(outcome.error).toMatch(error);
  });

test("a truncated response fails, but a response without a length is complete when the connection closes", async () => {
  const server = startServer((socket, request) => {
    socket.write(`HTTP/1.1 200 OK\r\n${request.includes("/whole") ? "" : "Content-Length: 9\r\n"}\r\nhalf`);
    socket.end();
  });
  expect(await readAll(await post(server.url))).toEqual({ text: "half", error: "connection lost" });
  expect(await readAll(await post(new URL("/whole", server.url)))).toEqual({ text: "half", error: null });
});

test("aborting a response closes the connection, and notifies the listener", async () => {
  const connectionClosed = Promise.withResolvers<void>();
  const server = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data: (socket) => void socket.write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"),
      close: () => connectionClosed.resolve(),
    },
  });
  cleanups.push(() => server.stop(true));
  const controller = new AbortController();
  const response = await post(`http://127.0.0.1:${server.port}/`, "", { signal: controller.signal });
  const readResult = readAll(response);
  controller.abort();
  expect(await readResult).toEqual({ text: "half", error: "aborted" });
  await connectionClosed.promise;
});

test("a connection that was idle for too long isn't reused", async () => {
  const server = startServer((socket) => void socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
  try {
    const startMs = Date.now();
    for (const [elapsedMs, connections] of [
      [0, 1],
      [IDLE_MS_MAX - 1_000, 1],
      [2 * IDLE_MS_MAX + 1_000, 2],
    ] as const) {
      setSystemTime(startMs + elapsedMs);
      expect(await readAll(await post(server.url))).toEqual({ text: "ok", error: null });
      expect(server.connections).toBe(connections);
      await waitUntilReusable();
    }
  } finally {
    setSystemTime();
  }
});

test("a request isn't retried after a broken response", async () => {
  let requests = 0;
  const server = startServer((socket) => {
    requests += 1;
    socket.write(requests === 1 ? "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" : "nonsense\r\n\r\n");
  });
  await readAll(await post(server.url));
  await expect(post(server.url)).rejects.toThrow("status line");
  expect(requests).toBe(2);
});

test("a connection that was paused when its response ended can be reused", async () => {
  const server = startServer((socket) => {
    socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
    setTimeout(() => socket.write("ok"), 10);
  });
  const { body } = await post(server.url);
  const responseEnd = Promise.withResolvers<Error | null>();
  body.listen({ onBytes: () => body.pause(), onEnd: responseEnd.resolve });
  expect(await responseEnd.promise).toBeNull();
  await waitUntilReusable();
  expect(await readAll(await post(server.url, "", { signal: AbortSignal.timeout(2_000) }))).toEqual({
    text: "ok",
    error: null,
  });
  expect(server.connections).toBe(1);
});

test("aborting during the TLS handshake closes the connection", async () => {
  const connectionClosed = Promise.withResolvers<void>();
  const dataReceived = Promise.withResolvers<void>();
  const server = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: { data: () => dataReceived.resolve(), close: () => connectionClosed.resolve() },
  });
  cleanups.push(() => server.stop(true));
  const controller = new AbortController();
  const response = post(`https://127.0.0.1:${server.port}/`, "", { signal: controller.signal });
  await dataReceived.promise;
  controller.abort(new Error("enough"));
  await expect(response).rejects.toThrow("enough");
  await connectionClosed.promise;
});

test("over TLS, nothing is sent to a server with an untrusted certificate", async () => {
  const folder = mkdtempSync(join(tmpdir(), "parley-tls-"));
  cleanups.push(() => rmSync(folder, { recursive: true }));
  const key = join(folder, "key.pem");
  const cert = join(folder, "cert.pem");
  const openssl = Bun.spawnSync(
    ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2"].concat([
      "-subj",
      "/CN=localhost",
      "-addext",
      "subjectAltName=DNS:localhost",
    ]),
    { stderr: "ignore" },
  );
  expect(openssl.exitCode).toBe(0);
  let requests = 0;
  const server = Bun.serve({
    port: 0,
    tls: { key: readFileSync(key), cert: readFileSync(cert) },
    fetch: () => {
      requests += 1;
      return new Response("ok");
    },
  });
  cleanups.push(() => server.stop(true));
  await expect(post(`https://localhost:${server.port}/`)).rejects.toThrow("certificate is not trusted");
  expect(requests).toBe(0);

  // A process that trusts the certificate can connect, but only with the correct host name.
  const program = join(import.meta.dir, "fixtures/request-https.ts");
  const sendFromNewProcess = async (url: string) => {
    const child = Bun.spawn([process.execPath, program, url], { env: { ...process.env, NODE_EXTRA_CA_CERTS: cert } });
    return (await new Response(child.stdout).text()).trim();
  };
  expect(await sendFromNewProcess(`https://localhost:${server.port}/`)).toBe("200 ok");
  expect(await sendFromNewProcess(`https://127.0.0.1:${server.port}/`)).toContain("certificate is not trusted");
  expect(requests).toBe(1);
});
