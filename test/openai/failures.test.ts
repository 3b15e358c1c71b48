import { afterAll, describe, expect, test } from "bun:test";
import type { RunFailure } from "../../src/ai/answer-part.ts";
import type { ProviderErrorCode } from "../../src/ai/provider.ts";
import { abortedRun, createFailure, startCompletionServer } from "../support/scripted-completion-server.ts";

const server = startCompletionServer();
afterAll(() => server.stop());

const requestCompletion = (stream: boolean) =>
  fetch(`${server.url}/chat/completions`, { method: "POST", body: JSON.stringify({ stream }) });

type FailureCase = [string, ProviderErrorCode, Partial<RunFailure>, number, Record<string, unknown>];

describe("a model failure", () => {
  test.each<FailureCase>([
    [
      "a context that is too long",
      "provider_refused",
      { status: 400, providerCode: "context_length_exceeded", param: "messages" },
      400,
      { code: "context_length_exceeded", param: "messages", type: "invalid_request_error" },
    ],
    ["a refusal without a status", "provider_refused", {}, 400, { code: "provider_refused", param: null }],
    [
      "a refusal with a status that clients must not see",
      "provider_refused",
      { status: 418, providerCode: "teapot" },
      400,
      { code: "teapot" },
    ],
    [
      "an unknown model",
      "provider_refused",
      { status: 404, providerCode: "model_not_found" },
      404,
      { code: "model_not_found", type: "invalid_request_error" },
    ],
    ["a conflict", "provider_unavailable", { status: 409 }, 503, { code: "provider_unavailable" }],
    ["a body that is too large", "provider_refused", { status: 413 }, 413, { code: "provider_refused" }],
    ["an unsupported media type", "provider_refused", { status: 415 }, 415, {}],
    [
      "an invalid value",
      "provider_refused",
      { status: 422, providerCode: "invalid_value", param: "top_p" },
      422,
      { param: "top_p" },
    ],
    [
      "a rate limit",
      "provider_rate_limited",
      { status: 429, providerCode: "rate_limit_exceeded" },
      429,
      { code: "rate_limit_exceeded", type: "rate_limit_error" },
    ],
    ["a rate limit reported in a stream", "provider_rate_limited", {}, 429, { code: "provider_rate_limited" }],
    [
      "a rate limit as a numeric code",
      "provider_rate_limited",
      { status: 429, providerCode: "429" },
      429,
      { code: "provider_rate_limited" },
    ],
    ["an exhausted account, by status", "provider_rate_limited", { status: 402 }, 429, { code: "insufficient_quota" }],
    [
      "an exhausted account, by code",
      "provider_refused",
      { status: 403, providerCode: "insufficient_quota" },
      429,
      { code: "insufficient_quota" },
    ],
    [
      "this server's API key being invalid",
      "provider_unauthorized",
      { status: 401, providerCode: "invalid_api_key", param: "authorization" },
      503,
      { code: "provider_unauthorized", param: null, type: "server_error" },
    ],
    [
      "this server's API key lacking permission",
      "provider_unauthorized",
      { status: 403 },
      503,
      { code: "provider_unauthorized" },
    ],
    ["a timeout", "provider_timeout", { status: 200 }, 504, { code: "provider_timeout", type: "server_error" }],
    ["a provider's server error", "provider_unavailable", { status: 500 }, 503, { code: "provider_unavailable" }],
    [
      "a provider's server error with a code",
      "provider_unavailable",
      { status: 529, providerCode: "overloaded_error" },
      503,
      { code: "overloaded_error", type: "server_error" },
    ],
    ["no available model", "provider_unavailable", { model: null }, 503, { code: "provider_unavailable" }],
  ])("due to %s is returned as an OpenAI error", async (_name, code, fields, status, error) => {
    server.scriptRun(async () => createFailure(code, fields));
    for (const stream of [false, true]) {
      const response = await requestCompletion(stream);
      const body = (await response.json()) as { error: object };
      expect([response.status, response.headers.get("retry-after")]).toEqual([status, null]);
      expect(body.error).toMatchObject({ message: expect.any(String), ...error });
      expect(Object.keys(body.error).sort()).toEqual(["code", "message", "param", "type"]);
    }
  });

  test.each([
    [0, "0"],
    [1, "1"],
    [1_000, "1"],
    [1_001, "2"],
    [3_600_000, "3600"],
    [Number.POSITIVE_INFINITY, null],
  ])("with a retry delay of %d ms is returned with the matching Retry-After", async (retryAfterMs, header) => {
    for (const code of ["provider_rate_limited", "provider_unavailable", "provider_timeout"] as const) {
      server.scriptRun(async () => createFailure(code, { retryAfterMs }));
      for (const stream of [false, true])
        expect((await requestCompletion(stream)).headers.get("retry-after")).toBe(header);
    }
  });

  test.each([
    ["context_length_exceeded", null, "The request is longer than the model's context window. Shorten the messages."],
    ["unsupported_parameter", "top_p", "The model doesn't support a parameter of the request. Parameter: top_p."],
    [null, "top_p", "The model rejected a parameter of the request. Parameter: top_p."],
    ["never_heard_of", null, "The model failed."],
    ["constructor", null, "The model failed."],
  ])("with the code %s and the parameter %s has Parley's own message", async (providerCode, param, message) => {
    server.scriptRun(async () => createFailure("provider_refused", { status: 400, providerCode, param }));
    expect(((await (await requestCompletion(false)).json()) as { error: object }).error).toMatchObject({ message });
  });

  test("caused by a shutdown can be retried after one second", async () => {
    server.scriptRun(async () => abortedRun);
    for (const stream of [false, true]) {
      const response = await requestCompletion(stream);
      expect([response.status, response.headers.get("retry-after")]).toEqual([503, "1"]);
      expect(await response.json()).toMatchObject({ error: { code: "draining" } });
    }
  });

  test("caused by a shutdown before a stream's first text is sent as an event, without [DONE]", async () => {
    server.scriptRun(async (_push, { onActivity }) => {
      onActivity();
      await Bun.sleep(50);
      return abortedRun;
    });
    const response = await requestCompletion(true);
    const text = await response.text();
    expect(response.status).toBe(200);
    expect(text).toMatch(/^: connected\n\ndata: \{"error":\{[^\n]*"code":"draining"\}\}\n\n$/);
  });
});
