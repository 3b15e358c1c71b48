import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import OpenAI from "openai";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";

const FIRST_TOKEN_TIMEOUT_MS = 2_600;

let provider: MockProvider;
let parley: TestApp;
let anna: Account;

beforeAll(async () => {
  provider = startMockProvider();
  parley = await startApp({
    config: {
      COMPATIBLE_BASE_URL: provider.openaiUrl,
      AI_MODELS: "compatible/backup,compatible/silent,compatible/pings,compatible/late,compatible/abandoned",
      AI_MAX_RETRIES: "0",
      AI_FIRST_TOKEN_TIMEOUT_MS: String(FIRST_TOKEN_TIMEOUT_MS),
    },
  });
  anna = await parley.register();
});
afterAll(async () => {
  await parley.stop();
  await provider.stop();
});

const messages = [{ role: "user" as const, content: "Hello" }];

/** Sends a request, and measures how long its headers and its whole body take to arrive. */
async function requestStream(model: string) {
  const startedMs = performance.now();
  const json = { model, messages, stream: true };
  const response = await parley.fetch("/v1/chat/completions", { token: anna.access_token, json });
  const openedMs = performance.now() - startedMs;
  return { response, openedMs, text: await response.text(), endedMs: performance.now() - startedMs };
}

describe.concurrent("a stream with several models", () => {
  test("opens as soon as a thinking model sends anything", async () => {
    // Sends the opening event immediately, then reasoning, then the answer.
    provider.script("pings", { thinking: 3, pieceDelayMs: 400, text: "Hello." });
    const { openedMs, endedMs, text } = await requestStream("compatible/pings");
    expect(openedMs).toBeLessThan(700);
    expect(endedMs).toBeGreaterThan(1_100);
    expect(text).toStartWith(': connected\n\ndata: {"id":"chatcmpl-');
    expect(text).toEndWith("data: [DONE]\n\n");
  });

  test("opens while the first model is silent, and continues with the next model", async () => {
    provider.script("silent", { fault: "no_headers" });
    provider.script("backup", { text: "Here I am." });
    const { response, openedMs, endedMs, text } = await requestStream("compatible/silent");
    expect(response.status).toBe(200);
    expect(openedMs).toBeWithin(1_950, FIRST_TOKEN_TIMEOUT_MS);
    expect(endedMs).toBeGreaterThan(FIRST_TOKEN_TIMEOUT_MS);
    expect(text.match(/"role":"assistant"/g)?.length).toBe(1);
    expect(text).toContain('"model":"compatible/backup"');
    expect(text).not.toContain("compatible/silent");
    expect(text).toEndWith("data: [DONE]\n\n");
  });

  test("can be read by OpenAI's client even if its answer starts late", async () => {
    provider.script("late", { firstDelayMs: 2_300, pieces: ["Better ", "late."] });
    const client = new OpenAI({ apiKey: anna.access_token, baseURL: `${parley.url}/v1`, maxRetries: 0 });
    const runner = client.chat.completions.stream({ model: "compatible/late", messages });
    expect(await runner.finalContent()).toBe("Better late.");
  });

  test("is aborted at the provider when its reader disconnects before it opens", async () => {
    provider.script("abandoned", { fault: "no_headers" });
    const abort = new AbortController();
    const request = fetch(`${parley.url}/v1/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${anna.access_token}`, "content-type": "application/json" },
      body: JSON.stringify({ model: "compatible/abandoned", messages, stream: true }),
      signal: abort.signal,
    });
    request.catch(() => {});
    const listProviderRequests = () => provider.listRequests("abandoned");
    for (let waits = 0; waits < 100 && listProviderRequests().length === 0; waits += 1) await Bun.sleep(20);
    abort.abort();
    for (let waits = 0; waits < 50 && !listProviderRequests()[0]?.wasAborted; waits += 1) await Bun.sleep(20);
    expect(listProviderRequests().map(({ wasAborted }) => wasAborted)).toEqual([true]);
  });
});

test("an error in the provider's first packet after HTTP 200 gets its own status, and a later error is sent as an event", async () => {
  const error = {
    message: "Provider's own message.",
    type: "invalid_request_error",
    code: "context_length_exceeded",
    param: "messages",
  };
  let firstBytes = "";
  const faultyServer = Bun.serve({
    port: 0,
    fetch: () =>
      new Response(
        (async function* () {
          if (firstBytes !== "") yield firstBytes;
          if (firstBytes !== "") await Bun.sleep(200);
          yield `data: ${JSON.stringify({ error })}\n\n`;
        })() as unknown as ReadableStream,
        { headers: { "content-type": "text/event-stream" } },
      ),
  });
  const faultyApp = await startApp({
    config: { COMPATIBLE_BASE_URL: `http://127.0.0.1:${faultyServer.port}/v1`, AI_MODELS: "compatible/faulty" },
  });
  const { access_token: token } = await faultyApp.register();
  const requestCompletion = async () => {
    const json = { model: "compatible/faulty", messages, stream: true };
    const response = await faultyApp.fetch("/v1/chat/completions", { token, json });
    return { status: response.status, text: await response.text() };
  };
  const earlyError = await requestCompletion();
  expect([earlyError.status, JSON.parse(earlyError.text).error.type]).toEqual([400, "invalid_request_error"]);
  firstBytes = ": PROCESSING\n\n";
  const lateError = await requestCompletion();
  expect(lateError.status).toBe(200);
  expect(lateError.text).toStartWith(': connected\n\ndata: {"error":{');
  expect(lateError.text).not.toContain("[DONE]");
  expect(earlyError.text + lateError.text).not.toContain("Provider's own message.");
  await faultyApp.stop();
  await faultyServer.stop(true);
});

test("an error after the provider's response headers gets its own status, because headers alone don't open a stream", async () => {
  const error = { message: "Provider's own message.", type: "invalid_request_error", code: "context_length_exceeded" };
  const event = `data: ${JSON.stringify({ error })}\n\n`;
  const faultyServer = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(socket, bytes) {
        if (!bytes.toString().startsWith("POST")) return;
        socket.write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n");
        setTimeout(() => socket.end(event), 300);
      },
    },
  });
  const faultyApp = await startApp({
    config: { COMPATIBLE_BASE_URL: `http://127.0.0.1:${faultyServer.port}/v1`, AI_MODELS: "compatible/faulty" },
  });
  const { access_token: token } = await faultyApp.register();
  const json = { model: "compatible/faulty", messages, stream: true };
  const response = await faultyApp.fetch("/v1/chat/completions", { token, json });
  const body = (await response.json()) as { error: { code: string } };
  expect([response.status, body.error.code]).toEqual([400, "context_length_exceeded"]);
  await faultyApp.stop();
  faultyServer.stop(true);
});

test("stream options are ignored if they are null or if no stream is requested", async () => {
  for (const fields of [
    { stream: true, stream_options: null },
    { stream: null, stream_options: { include_usage: true } },
  ]) {
    const json = { model: "compatible/backup", messages, n: null, ...fields };
    const response = await parley.fetch("/v1/chat/completions", { token: anna.access_token, json });
    expect(response.status).toBe(200);
    await response.text();
  }
});

test("HEAD returns 405 for completions, and 200 for models", async () => {
  const requestHead = (path: string) => parley.fetch(path, { token: anna.access_token, method: "HEAD" });
  const [completions, models] = await Promise.all([requestHead("/v1/chat/completions"), requestHead("/v1/models")]);
  expect([completions.status, completions.headers.get("allow"), models.status]).toEqual([405, "POST", 200]);
});
