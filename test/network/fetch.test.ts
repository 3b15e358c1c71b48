import { afterEach, beforeEach, expect, test } from "bun:test";
import { createFetch } from "../../src/lib/outgoing/create-fetch.ts";
import { createProxyFinder, noProxy } from "../../src/lib/outgoing/find-proxy.ts";
import { startRawServer } from "../ai/raw-server.ts";
import { startHttpProxy } from "../support/http-proxy.ts";
import { waitUntil } from "../support/wait-until.ts";

const fetch = createFetch(noProxy);
const cleanups: (() => unknown)[] = [];
let requests: { url: string; headers: Headers }[] = [];
beforeEach(() => {
  requests = [];
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

function startServer(respond: (request: Request) => Response | Promise<Response>) {
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch(request) {
      requests.push({ url: request.url, headers: request.headers });
      return respond(request);
    },
  });
  cleanups.push(() => server.stop(true));
  return `http://127.0.0.1:${server.port}`;
}

const catchError = (response: Promise<unknown>): Promise<Error> =>
  response.then(
    () => {
      throw new Error("the request succeeded");
    },
    (error) => error,
  );

test("fetch sends and receives all kinds of bodies", async () => {
  const url = startServer(async (request) =>
    Response.json({ type: request.headers.get("content-type"), text: await request.text() }),
  );
  const postBody = async (body: NonNullable<RequestInit["body"]>) =>
    (await fetch(url, { method: "POST", body })).json();
  expect(await postBody('{"a":1}')).toEqual({ type: null, text: '{"a":1}' });
  expect(await postBody(new URLSearchParams({ a: "1" }))).toEqual({
    type: "application/x-www-form-urlencoded;charset=UTF-8",
    text: "a=1",
  });
  expect(await postBody(new Uint8Array([104, 105]))).toEqual({ type: null, text: "hi" });
  const response = await fetch(`${url}/path?q=1`, { headers: { "x-a": "b" } });
  expect(requests.at(-1)?.url).toBe(`${url}/path?q=1`);
  expect(requests.at(-1)?.headers.get("x-a")).toBe("b");
  expect(requests.at(-1)?.headers.get("user-agent")).toStartWith("Parley/");
  expect(requests.at(-1)?.headers.has("content-length")).toBe(false);
  await response.body?.cancel();
});

test("a response without a body keeps its status", async () => {
  for (const status of [204, 304]) {
    const response = await fetch(startServer(() => new Response(null, { status })));
    expect([response.status, response.body]).toEqual([status, null]);
  }
});

test("credentials in a URL are sent as basic authentication", async () => {
  const url = startServer(() => new Response("ok"));
  await (await fetch(url.replace("://", "://us%40er:pass@"))).text();
  expect(requests[0]?.headers.get("authorization")).toBe(`Basic ${btoa("us@er:pass")}`);
});

test("redirects are followed only within the origin, and at most five times", async () => {
  const otherOrigin = startServer(() => new Response("secret"));
  const url = startServer((request) => {
    const { pathname } = new URL(request.url);
    if (pathname === "/mcp") return new Response(null, { status: 307, headers: { location: "/mcp/" } });
    if (pathname === "/see") return new Response(null, { status: 303, headers: { location: "/mcp/" } });
    if (pathname === "/loop") return new Response(null, { status: 302, headers: { location: "/loop" } });
    if (pathname === "/away")
      return new Response(null, { status: 307, headers: { location: `${otherOrigin}/secret` } });
    return new Response(`${request.method} there`);
  });
  const postOptions = { method: "POST", body: "{}", headers: { authorization: "Bearer key" } };
  expect(await (await fetch(`${url}/mcp`, postOptions)).text()).toBe("POST there");
  expect(await (await fetch(`${url}/see`, postOptions)).text()).toBe("GET there");
  expect((await fetch(`${url}/mcp`, { ...postOptions, redirect: "manual" })).status).toBe(307);
  expect((await catchError(fetch(`${url}/mcp`, { redirect: "error" }))).message).toContain("redirects");
  requests = [];
  expect((await catchError(fetch(`${url}/loop`))).message).toContain("redirects more often than allowed");
  expect(requests.length).toBe(6);
  requests = [];
  expect((await catchError(fetch(`${url}/away`, postOptions))).message).toContain(
    `redirects to ${otherOrigin}, which is not followed`,
  );
  expect(requests.length).toBe(1);
});

test("an unrequested gzip response is decompressed, and other content encodings are rejected", async () => {
  const gzipUrl = startServer(() => new Response(Bun.gzipSync("zipped"), { headers: { "content-encoding": "gzip" } }));
  expect(await (await fetch(gzipUrl)).text()).toBe("zipped");
  expect(requests[0]?.headers.get("accept-encoding")).toBe("identity");
  const brotliUrl = startServer(() => new Response("??", { headers: { "content-encoding": "br" } }));
  expect((await catchError(fetch(brotliUrl))).message).toContain("unsupported compression (br)");
});

test("an aborted request fails with the abort's reason, before and after the headers", async () => {
  const abortedPaths: string[] = [];
  const url = startServer((request) => {
    const { pathname } = new URL(request.url);
    request.signal.addEventListener("abort", () => abortedPaths.push(pathname));
    if (pathname === "/silent") return new Promise(() => {});
    return new Response(
      new ReadableStream({
        async pull(controller) {
          controller.enqueue("some");
          await new Promise(() => {});
        },
      }),
    );
  });
  const reason = new Error("enough");
  const silentAbort = new AbortController();
  const pendingResponse = fetch(`${url}/silent`, { signal: silentAbort.signal });
  await waitUntil(() => requests.length === 1);
  silentAbort.abort(reason);
  expect(await catchError(pendingResponse)).toBe(reason);
  const startedAbort = new AbortController();
  const response = await fetch(`${url}/started`, { signal: startedAbort.signal });
  const pendingText = response.text();
  startedAbort.abort(reason);
  expect(await catchError(pendingText)).toBe(reason);
  const cancelledResponse = await fetch(`${url}/cancelled`);
  await cancelledResponse.body?.cancel();
  await waitUntil(() => abortedPaths.length === 3);
  expect(abortedPaths).toEqual(["/silent", "/started", "/cancelled"]);
});

const connectionTypes = ["directly", "through a proxy", "through a tunnel"];
test.each(connectionTypes)("a server connected %s is slowed down by a slow reader", async (connection) => {
  const proxy = await startHttpProxy();
  cleanups.push(proxy.stop);
  const findProxy = createProxyFinder({ HTTP_PROXY: proxy.url });
  const fetchThrough = createFetch((url) => {
    const route = findProxy(url);
    return connection === "directly" || route === null
      ? null
      : { ...route, isTunnel: connection === "through a tunnel" };
  });
  const sizeBytes = 64 * 1024 * 1024;
  const chunk = Buffer.alloc(1024 * 1024);
  let sentBytes = 0;
  const server = startRawServer((socket) => {
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${sizeBytes}\r\n\r\n`);
    const writeMore = () => {
      while (sentBytes < sizeBytes) {
        const writtenBytes = socket.write(chunk.subarray(0, Math.min(chunk.length, sizeBytes - sentBytes)));
        if (writtenBytes <= 0) return void setTimeout(writeMore, 5);
        sentBytes += writtenBytes;
      }
    };
    writeMore();
  });
  cleanups.push(server.stop);
  const response = await fetchThrough(
    connection === "directly" ? server.url : server.url.replace("localhost", "models.test"),
  );
  expect(proxy.requests.length).toBe(connection === "directly" ? 0 : 1);
  let sentBytesBefore = -1;
  // Waits until the kernel's buffers are full.
  await waitUntil(async () => {
    const hasStopped = sentBytesBefore === sentBytes;
    sentBytesBefore = sentBytes;
    await Bun.sleep(200);
    return hasStopped;
  });
  expect(sentBytes).toBeLessThan(sizeBytes / 2);
  let bytes = 0;
  for await (const chunk of response.body ?? []) bytes += chunk.byteLength;
  expect(bytes).toBe(sizeBytes);
});

test("a configured proxy is used, and errors about it mention the setting", async () => {
  const proxy = await startHttpProxy("a:b");
  cleanups.push(proxy.stop);
  const url = startServer(() => new Response("through the proxy")).replace("127.0.0.1", "elsewhere.test");
  const authorizedFetch = createFetch(createProxyFinder({ HTTP_PROXY: proxy.url.replace("://", "://a:b@") }));
  expect(await (await authorizedFetch(url)).text()).toBe("through the proxy");
  expect(proxy.requests).toMatchObject([{ kind: "absolute", target: new URL(url).host }]);
  const unauthorizedFetch = createFetch(createProxyFinder({ HTTP_PROXY: proxy.url }));
  expect((await catchError(unauthorizedFetch(url))).message).toContain(
    "requires credentials (HTTP 407): add user:password@ to HTTP_PROXY",
  );
});
