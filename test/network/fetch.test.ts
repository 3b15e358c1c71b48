import { afterEach, beforeEach, expect, test } from "bun:test";
import { createFetch } from "../../src/lib/outgoing/create-fetch.ts";
import { createFindProxy, noProxy } from "../../src/lib/outgoing/find-proxy.ts";
import { serveBytes } from "../ai/raw-server.ts";
import { startHttpProxy } from "../support/http-proxy.ts";
import { waitUntil } from "../support/wait-until.ts";

const fetch = createFetch(noProxy);
const stops: (() => unknown)[] = [];
let seen: { url: string; headers: Headers }[] = [];
beforeEach(() => {
  seen = [];
});
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

function serve(answer: (request: Request) => Response | Promise<Response>) {
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch(request) {
      seen.push({ url: request.url, headers: request.headers });
      return answer(request);
    },
  });
  stops.push(() => server.stop(true));
  return `http://127.0.0.1:${server.port}`;
}

const failed = (sent: Promise<unknown>): Promise<Error> =>
  sent.then(
    () => {
      throw new Error("the request succeeded");
    },
    (error) => error,
  );

test("sends and receives bodies of every kind", async () => {
  const url = serve(async (request) =>
    Response.json({ type: request.headers.get("content-type"), text: await request.text() }),
  );
  const post = async (body: NonNullable<RequestInit["body"]>) => (await fetch(url, { method: "POST", body })).json();
  expect(await post('{"a":1}')).toEqual({ type: null, text: '{"a":1}' });
  expect(await post(new URLSearchParams({ a: "1" }))).toEqual({
    type: "application/x-www-form-urlencoded;charset=UTF-8",
    text: "a=1",
  });
  expect(await post(new Uint8Array([104, 105]))).toEqual({ type: null, text: "hi" });
  const response = await fetch(`${url}/path?q=1`, { headers: { "x-a": "b" } });
  expect(seen.at(-1)?.url).toBe(`${url}/path?q=1`);
  expect(seen.at(-1)?.headers.get("x-a")).toBe("b");
  expect(seen.at(-1)?.headers.get("user-agent")).toStartWith("Parley/");
  expect(seen.at(-1)?.headers.has("content-length")).toBe(false);
  await response.body?.cancel();
});

test("handles statuses without a body", async () => {
  for (const status of [204, 304]) {
    const response = await fetch(serve(() => new Response(null, { status })));
    expect([response.status, response.body]).toEqual([status, null]);
  }
});

test("sends the credentials in an address as basic authentication", async () => {
  const url = serve(() => new Response("ok"));
  await (await fetch(url.replace("://", "://us%40er:pass@"))).text();
  expect(seen[0]?.headers.get("authorization")).toBe(`Basic ${btoa("us@er:pass")}`);
});

test("follows redirects within the origin only, at most five times", async () => {
  const inside = serve(() => new Response("inside"));
  const url = serve((request) => {
    const { pathname } = new URL(request.url);
    if (pathname === "/mcp") return new Response(null, { status: 307, headers: { location: "/mcp/" } });
    if (pathname === "/see") return new Response(null, { status: 303, headers: { location: "/mcp/" } });
    if (pathname === "/loop") return new Response(null, { status: 302, headers: { location: "/loop" } });
    if (pathname === "/away") return new Response(null, { status: 307, headers: { location: `${inside}/secret` } });
    return new Response(`${request.method} there`);
  });
  const post = { method: "POST", body: "{}", headers: { authorization: "Bearer key" } };
  expect(await (await fetch(`${url}/mcp`, post)).text()).toBe("POST there");
  expect(await (await fetch(`${url}/see`, post)).text()).toBe("GET there");
  expect((await fetch(`${url}/mcp`, { ...post, redirect: "manual" })).status).toBe(307);
  expect((await failed(fetch(`${url}/mcp`, { redirect: "error" }))).message).toContain("redirects");
  seen = [];
  expect((await failed(fetch(`${url}/loop`))).message).toContain("redirects more often than allowed");
  expect(seen.length).toBe(6);
  seen = [];
  expect((await failed(fetch(`${url}/away`, post))).message).toContain(`redirects to ${inside}, which is not followed`);
  expect(seen.length).toBe(1);
});

test("decompresses or refuses an unrequested compression", async () => {
  const zipped = serve(() => new Response(Bun.gzipSync("zipped"), { headers: { "content-encoding": "gzip" } }));
  expect(await (await fetch(zipped)).text()).toBe("zipped");
  expect(seen[0]?.headers.get("accept-encoding")).toBe("identity");
  const other = serve(() => new Response("??", { headers: { "content-encoding": "br" } }));
  expect((await failed(fetch(other))).message).toContain("unsupported compression (br)");
});

test("an abort ends the request with its reason, before and after the headers", async () => {
  const ended: string[] = [];
  const url = serve((request) => {
    const { pathname } = new URL(request.url);
    request.signal.addEventListener("abort", () => ended.push(pathname));
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
  const first = new AbortController();
  const silent = fetch(`${url}/silent`, { signal: first.signal });
  await waitUntil(() => seen.length === 1);
  first.abort(reason);
  expect(await failed(silent)).toBe(reason);
  const second = new AbortController();
  const response = await fetch(`${url}/begun`, { signal: second.signal });
  const text = response.text();
  second.abort(reason);
  expect(await failed(text)).toBe(reason);
  const third = await fetch(`${url}/cancelled`);
  await third.body?.cancel();
  await waitUntil(() => ended.length === 3);
  expect(ended).toEqual(["/silent", "/begun", "/cancelled"]);
});

test.each(["directly", "by a proxy", "through a tunnel"])("a slow reader makes the server wait: %s", async (way) => {
  const proxy = await startHttpProxy();
  stops.push(proxy.stop);
  const findProxy = createFindProxy({ HTTP_PROXY: proxy.url });
  const get = createFetch((url) => {
    const route = findProxy(url);
    return way === "directly" || route === null ? null : { ...route, isTunnel: way === "through a tunnel" };
  });
  const size = 64 * 1024 * 1024;
  const piece = Buffer.alloc(1024 * 1024);
  let sent = 0;
  const server = serveBytes((socket) => {
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${size}\r\n\r\n`);
    const more = () => {
      while (sent < size) {
        const written = socket.write(piece.subarray(0, Math.min(piece.length, size - sent)));
        if (written <= 0) return void setTimeout(more, 5);
        sent += written;
      }
    };
    more();
  });
  stops.push(server.stop);
  const response = await get(way === "directly" ? server.url : server.url.replace("localhost", "models.test"));
  expect(proxy.requests.length).toBe(way === "directly" ? 0 : 1);
  let before = -1;
  // Until the kernel's buffers are full.
  await waitUntil(async () => {
    const isStill = before === sent;
    before = sent;
    await Bun.sleep(200);
    return isStill;
  });
  expect(sent).toBeLessThan(size / 2);
  let bytes = 0;
  for await (const chunk of response.body ?? []) bytes += chunk.byteLength;
  expect(bytes).toBe(size);
});

test("a proxy is used, and its error names the setting", async () => {
  const proxy = await startHttpProxy("a:b");
  stops.push(proxy.stop);
  const url = serve(() => new Response("by the proxy")).replace("127.0.0.1", "elsewhere.test");
  const authorizedFetch = createFetch(createFindProxy({ HTTP_PROXY: proxy.url.replace("://", "://a:b@") }));
  expect(await (await authorizedFetch(url)).text()).toBe("by the proxy");
  expect(proxy.requests).toMatchObject([{ form: "absolute", target: new URL(url).host }]);
  const unauthorizedFetch = createFetch(createFindProxy({ HTTP_PROXY: proxy.url }));
  expect((await failed(unauthorizedFetch(url))).message).toContain(
    "requires credentials (HTTP 407): add user:password@ to HTTP_PROXY",
  );
});
