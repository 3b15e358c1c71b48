import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { ERROR_BODY_TIMEOUT_MS } from "../../src/ai/transport/read-start.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { collectRun, createTestChain } from "./collect.ts";
import { type RawResponse, type RawResponseServer, startRawResponseServer } from "./raw-responses.ts";
import { formatEvent } from "./read-body.ts";

let mockProvider: MockProvider;
let rawServer: RawResponseServer;
beforeAll(() => {
  mockProvider = startMockProvider();
  rawServer = startRawResponseServer(mockProvider);
});
afterEach(() => {
  rawServer.responses.clear();
  rawServer.requestedModels.length = 0;
});
afterAll(async () => {
  rawServer.stop();
  await mockProvider.stop();
});

/** An answer in each protocol, as events and as a JSON document. */
const protocols = [
  {
    provider: "openai",
    text: formatEvent("response.output_text.delta", { type: "response.output_text.delta", delta: "Hi." }),
    end: formatEvent("response.completed", { type: "response.completed", response: { status: "completed" } }),
    jsonDocument: {
      object: "response",
      status: "completed",
      error: null,
      output: [{ type: "message", content: "Hi." }],
    },
  },
  {
    provider: "anthropic",
    text: formatEvent(null, { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "Hi." } }),
    end: formatEvent(null, { type: "message_delta", delta: { stop_reason: "end_turn" }, usage: { output_tokens: 2 } }),
    jsonDocument: { type: "message", content: [{ type: "text", text: "Hi." }], stop_reason: "end_turn" },
  },
  {
    provider: "compatible",
    text: formatEvent(null, { choices: [{ index: 0, delta: { content: "Hi." } }] }),
    end: formatEvent(null, { choices: [{ index: 0, delta: {}, finish_reason: "stop" }] }),
    jsonDocument: { choices: [{ message: { role: "assistant", content: "Hi." }, finish_reason: "stop" }] },
  },
] as const;

/** Runs `<provider>/raw`, with one retry and no other model. */
async function runChain(provider: string, response: RawResponse, options: Parameters<typeof createTestChain>[2] = {}) {
  rawServer.responses.set("raw", response);
  let activityCount = 0;
  const startedMs = performance.now();
  const chain = createTestChain(rawServer.mockProvider, [`${provider}/raw`], options);
  const { text, end } = await collectRun(chain, { onActivity: () => void activityCount++ });
  return {
    text,
    end,
    requestCount: rawServer.requestedModels.length,
    activityCount,
    durationMs: performance.now() - startedMs,
  };
}

describe.each(protocols)("$provider: an answer is complete despite", ({ provider, text, end }) => {
  test.each<[string, Partial<RawResponse>]>([
    ["a connection that is reset", { packets: [text, end], end: "reset" }],
    ["a connection that is reset in the same packet", { packets: [text + end], end: "reset" }],
    ["an error event", { packets: [text, end, formatEvent("error", { error: { code: 500 } })] }],
    ["an error event in the same packet", { packets: [text + end + formatEvent("error", "x")], end: "reset" }],
    ["the field `error`", { packets: [text, end, "error: x\n\n"] }],
    ["invalid JSON", { packets: [text, end, formatEvent(null, '{"half'), text] }],
    ["an incomplete event", { packets: [text, end, 'data: {"half'], end: "reset" }],
    ["a connection that stays open", { packets: [text, end], end: "open" }],
  ])("%s after the answer's end", async (_name, response) => {
    const result = await runChain(
      provider,
      { contentType: "text/event-stream", packets: [], ...response },
      { idleTimeoutMs: 5_000 },
    );
    expect(result).toMatchObject({ text: "Hi.", end: { type: "finish", reason: "stop" }, requestCount: 1 });
    expect(result.durationMs).toBeLessThan(2_000);
  });
});

describe.each(protocols)("$provider: a body", ({ provider, text, end }) => {
  test.each(["application/json", "text/html; charset=utf-8", "text/plain", "application/octet-stream", undefined])(
    "is read as an event stream despite the content type %p",
    async (contentType) => {
      for (const start of ["", "\ufeff", "\n\n", ": hello\n\n"]) {
        const result = await runChain(provider, { contentType, packets: [start + text, end] } as RawResponse);
        expect(result).toMatchObject({ text: "Hi.", end: { type: "finish" } });
      }
      expect(rawServer.requestedModels.length).toBe(4);
    },
  );

  test("is read as events even without blank lines between them", async () => {
    const packets = [(text + text + end).replaceAll("\n\n", "\n")];
    expect(await runChain(provider, { packets })).toMatchObject({
      text: "Hi.Hi.",
      end: { type: "finish" },
      requestCount: 1,
    });
  });

  test.each<[string, RawResponse, string, number]>([
    [
      "a web page",
      { contentType: "text/html", packets: ["<!doctype html><h1>Sign in</h1>"] },
      "provider_unavailable",
      1,
    ],
    ["a web page as events", { contentType: "text/event-stream", packets: [" \n<html>"] }, "provider_unavailable", 1],
    ["an unrelated JSON document", { packets: ['{"hello":"world"}'] }, "provider_unavailable", 1],
    ["JSON lines", { packets: ['{"response":"H"}\n', '{"response":"i"}\n'] }, "provider_unavailable", 1],
    ["JSON lines in one packet", { packets: ['{"response":"H"}\n{"response":"i"}\n'] }, "provider_unavailable", 1],
    ["an incomplete document", { packets: ['{"output":[{"type"'] }, "provider_unavailable", 2],
    [
      "an incomplete document, followed by a reset",
      { packets: ['{"output":[{"type"'], end: "reset" },
      "provider_unavailable",
      2,
    ],
    ["invalid JSON in brackets", { packets: ["{oops}"] }, "provider_unavailable", 1],
    ["a string", { contentType: "text/plain", packets: ["upstream down\n"] }, "provider_unavailable", 2],
    ["empty", { contentType: "application/json", packets: [] }, "provider_unavailable", 2],
    [
      "an error as a JSON document",
      { packets: ['{"error":{"code":"context_length_exceeded"}}'] },
      "provider_refused",
      1,
    ],
    [
      "an error as a JSON document, with the content type of an event stream",
      { contentType: "text/event-stream", packets: ['{"error":{"code":', '"401"}}'] },
      "provider_unauthorized",
      1,
    ],
    ["an error as an array", { packets: ['[{"error":{"code":402}}]'] }, "provider_rate_limited", 1],
    ["a transient error", { packets: ['{"object":"error","code":503}'] }, "provider_unavailable", 2],
    ["an error with only a code", { packets: ['{"code":"401","message":"no"}'] }, "provider_unauthorized", 1],
    [
      "an error with only a type",
      { packets: ['{"type":"invalid_request_error","detail":"no"}'] },
      "provider_refused",
      1,
    ],
    ["an error before JSON lines", { packets: ['{"error":"model not found"}\n{"x":1}\n'] }, "provider_refused", 1],
  ])("fails if it is %s", async (_name, response, code, requestCount) => {
    const result = await runChain(provider, response);
    expect(result).toMatchObject({ text: "", end: { type: "error", code }, requestCount });
  });
});

describe.each(protocols)("$provider: a JSON document instead of a stream", ({ provider, jsonDocument }) => {
  test.each(["application/json", "text/event-stream", undefined])(
    "is read with the content type %p, even if the connection stays open or is reset",
    async (contentType) => {
      const document = JSON.stringify(jsonDocument, null, 2);
      const packets = ["\n", document.slice(0, 30), document.slice(30)];
      for (const ending of ["normal", "reset", "open"] as const) {
        const result = await runChain(provider, { contentType, packets, end: ending } as RawResponse);
        expect(result).toMatchObject({ text: "Hi.", end: { type: "finish", reason: "stop" } });
        expect(result.durationMs).toBeLessThan(250);
      }
      expect(rawServer.requestedModels.length).toBe(3);
    },
  );
});

describe.each(protocols)(
  "$provider: an error within a stream is classified like an HTTP error",
  ({ provider, text }) => {
    test.each<[string, string, number, object]>([
      [
        "context_length_exceeded",
        formatEvent(null, { error: { code: "context_length_exceeded" } }),
        1,
        { code: "provider_refused", providerCode: "context_length_exceeded" },
      ],
      ["400", formatEvent("error", { error: { code: 400 } }), 1, { code: "provider_refused", status: 400 }],
      [
        "a nested 401 as a string",
        formatEvent("error", { error: { error: { code: "401" } } }),
        1,
        { code: "provider_unauthorized", status: 401 },
      ],
      ["402", formatEvent("error", { code: 402 }), 1, { code: "provider_rate_limited", status: 402 }],
      ["404", formatEvent("error", { error: { status: 404 } }), 1, { code: "provider_refused", status: 404 }],
      [
        "429 with a retry delay",
        formatEvent("error", { error: { code: 429, retry_after: 60 } }),
        1,
        { code: "provider_rate_limited", retryAfterMs: 60_000 },
      ],
      ["429", formatEvent("error", { error: { code: "429" } }), 2, { code: "provider_rate_limited", status: 429 }],
      ["insufficient_quota", 'error: {"type":"insufficient_quota"}\n\n', 1, { code: "provider_rate_limited" }],
      [
        "400 outside an event, on several lines",
        `: wait\n\n${JSON.stringify({ error: { code: 400, data: "no" } }, null, 2)}\n`,
        1,
        { code: "provider_refused", status: 400 },
      ],
      [
        "a bare status",
        formatEvent(null, { status: 403, detail: "no" }),
        1,
        { code: "provider_unauthorized", status: 403 },
      ],
      ["a bare code", formatEvent(null, { code: "model_not_found", message: "no" }), 1, { code: "provider_refused" }],
      ["no name", formatEvent("error", {}), 2, { code: "provider_unavailable" }],
    ])("%s", async (_name, error, requestCount, expected) => {
      const result = await runChain(provider, { contentType: "text/event-stream", packets: [error] });
      expect(result).toMatchObject({ text: "", end: { type: "error", ...expected }, requestCount });
      const resultAfterText = await runChain(
        provider,
        { contentType: "text/event-stream", packets: [text, error] },
        { maxRetries: 0 },
      );
      expect(resultAfterText).toMatchObject({
        text: "Hi.",
        end: { type: "error", code: result.end.type === "error" && result.end.code },
      });
    });
  },
);

test.each(["reset", "open"] as const)("an error whose body doesn't end (%s) keeps its status", async (end) => {
  const options = { firstTokenTimeoutMs: 10_000, idleTimeoutMs: 10_000 };
  const response = { status: 401, contentType: "application/json", packets: ['{"error":{"code":"inv'], end };
  const result = await runChain("openai", response, options);
  expect(result).toMatchObject({ end: { type: "error", code: "provider_unauthorized", status: 401 }, requestCount: 1 });
  expect(result.durationMs).toBeLessThan(ERROR_BODY_TIMEOUT_MS + 1_000);
});

test("a document that arrives slowly doesn't time out", async () => {
  const document = JSON.stringify(protocols[1].jsonDocument);
  const packets = document.match(/.{1,12}/g) ?? [];
  const options = { firstTokenTimeoutMs: 200, idleTimeoutMs: 200, maxRetries: 0 };
  const { text, durationMs, activityCount } = await runChain("anthropic", { packets, pauseMs: 60 }, options);
  expect([text, activityCount]).toEqual(["Hi.", 1]);
  expect(durationMs).toBeGreaterThan(300);
});

test("a response without a body times out", async () => {
  const options = { firstTokenTimeoutMs: 150, maxRetries: 0 };
  const { end, activityCount } = await runChain("anthropic", { packets: [], end: "open" }, options);
  expect([end, activityCount]).toMatchObject([{ type: "error", code: "provider_timeout" }, 0]);
});
