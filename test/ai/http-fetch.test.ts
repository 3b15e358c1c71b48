import { afterAll, beforeAll, expect, test } from "bun:test";
import { httpFetch, readStart, takeBody } from "../../src/ai/http-fetch.ts";

/** More than Bun's own `fetch` lets run at once. */
const REQUESTS = 400;

let waiting = 0;
let hangUps = 0;
let server: ReturnType<typeof Bun.serve>;
const everybodyIsHere = Promise.withResolvers<void>();

/** The body of a good answer. */
async function readText(response: Response): Promise<string> {
  const body = takeBody(response);
  if (!body) throw new Error(`no body, status ${response.status}`);
  return (await readStart(body)).text();
}

beforeAll(() => {
  server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    idleTimeout: 0,
    async fetch(request) {
      const path = new URL(request.url).pathname;
      if (path === "/together") {
        waiting += 1;
        if (waiting === REQUESTS) everybodyIsHere.resolve();
        await everybodyIsHere.promise;
        return new Response("ok");
      }
      if (path === "/hang") {
        await new Promise((resolve) => request.signal.addEventListener("abort", resolve));
        hangUps += 1;
        return new Response();
      }
      if (path === "/error") return new Response("too many", { status: 429, headers: { "retry-after": "7" } });
      if (path === "/redirect") return Response.redirect("/elsewhere", 302);
      if (path === "/empty") return new Response(null, { status: 204 });
      if (path === "/endless-error")
        return new Response(new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(65_536)) }), {
          status: 500,
        });
      return new Response(`${request.method} ${await request.text()}`, {
        headers: { "x-seen": request.headers.get("x-own") ?? "" },
      });
    },
  });
});
afterAll(() => server.stop(true));

test("sends and receives", async () => {
  const response = await httpFetch(new URL("/echo", server.url), {
    method: "POST",
    body: "häl",
    headers: { "x-own": "yes" },
  });
  expect([response.status, response.headers.get("x-seen"), await readText(response)]).toEqual([200, "yes", "POST häl"]);
});

test(`${REQUESTS} requests run at once`, async () => {
  const answers = await Promise.all(
    Array.from({ length: REQUESTS }, () => httpFetch(new URL("/together", server.url))),
  );
  expect(answers.filter(({ status }) => status === 200).length).toBe(REQUESTS);
  await Promise.all(answers.map(readText));
}, 10_000);

test("an error answer has its own headers, not those of the request", async () => {
  const answer = await httpFetch(new URL("/error", server.url), { headers: { authorization: "Bearer secret" } });
  expect([answer.status, answer.headers.get("retry-after"), answer.headers.get("authorization")]).toEqual([
    429,
    "7",
    null,
  ]);
  expect(await answer.text()).toBe("too many");
});

test("redirects are not followed, an answer without a body has none, an endless error is cut", async () => {
  expect((await httpFetch(new URL("/redirect", server.url))).status).toBe(302);
  const empty = await httpFetch(new URL("/empty", server.url));
  expect([empty.status, empty.body]).toEqual([204, null]);
  const endless = await httpFetch(new URL("/endless-error", server.url));
  expect((await endless.arrayBuffer()).byteLength).toBeLessThan(1_000_000);
});

test("stopping ends the request at the server", async () => {
  const reason = new Error("stopped");
  await expect(httpFetch(server.url, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  const controller = new AbortController();
  setTimeout(() => controller.abort(reason), 20);
  await expect(httpFetch(new URL("/hang", server.url), { signal: controller.signal })).rejects.toBe(reason);
  await Bun.sleep(20);
  expect(hangUps).toBe(1);
});

test("a server that is not there", async () => {
  await expect(httpFetch("http://127.0.0.1:1/")).rejects.toThrow();
});

test("a waiting connection that the server has just closed is no failure", async () => {
  const first = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("first") });
  const { port, url } = first;
  expect(await readText(await httpFetch(url))).toBe("first");
  await Bun.sleep(5);
  await first.stop(true);
  const second = Bun.serve({ port: port ?? 0, hostname: "127.0.0.1", fetch: () => new Response("second") });
  expect(await readText(await httpFetch(url))).toBe("second");
  await second.stop(true);
});
