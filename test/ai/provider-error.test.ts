import { expect, test } from "bun:test";
import { isBareError, isErrorValue } from "../../src/ai/error-fields.ts";
import {
  cleanError,
  createProviderError,
  mapErrorFields,
  mapErrorText,
  mapHttpFailure,
} from "../../src/ai/provider-error.ts";
import { parseRetryAfter } from "../../src/ai/retry-after.ts";

test.each([
  [null, "provider_unavailable", true],
  [400, "provider_refused", false],
  [401, "provider_unauthorized", false],
  [402, "provider_rate_limited", false],
  [403, "provider_unauthorized", false],
  [404, "provider_refused", false],
  [408, "provider_unavailable", true],
  [409, "provider_unavailable", true],
  [413, "provider_refused", false],
  [422, "provider_refused", false],
  [429, "provider_rate_limited", true],
  [500, "provider_unavailable", true],
  [529, "provider_unavailable", true],
] as const)("HTTP %p is mapped to %s, retryable: %p", (status, code, retryable) => {
  expect(mapHttpFailure({ status, headers: null, message: "no" }, [])).toMatchObject({ code, retryable });
});

const unavailableError = { code: "provider_unavailable", retryable: true };
const rateLimitError = { code: "provider_rate_limited", retryable: true };
const noCreditError = { code: "provider_rate_limited", retryable: false };
const unauthorizedError = { code: "provider_unauthorized", retryable: false };
const refusedError = { code: "provider_refused", retryable: false };

/** Errors that providers, servers and gateways send with HTTP 500 or within a stream. */
const errorBodies: [name: string, body: unknown, expected: object][] = [
  [
    "OpenAI: context length",
    { error: { message: "x", type: "invalid_request_error", param: "messages", code: "context_length_exceeded" } },
    { ...refusedError, providerCode: "context_length_exceeded", param: "messages" },
  ],
  [
    "OpenAI: unknown model",
    { error: { message: "x", type: "invalid_request_error", param: null, code: "model_not_found" } },
    { ...refusedError, providerCode: "model_not_found", param: null },
  ],
  [
    "OpenAI: no credit",
    { error: { message: "x", type: "insufficient_quota", param: null, code: "insufficient_quota" } },
    { ...noCreditError, providerCode: "insufficient_quota" },
  ],
  ["OpenAI: rate limit", { error: { type: "tokens", code: "rate_limit_exceeded" } }, rateLimitError],
  ["OpenAI: an invalid key", { error: { type: "invalid_request_error", code: "invalid_api_key" } }, unauthorizedError],
  [
    "OpenAI: content policy",
    { error: { type: "invalid_request_error", code: "content_policy_violation" } },
    refusedError,
  ],
  ["OpenAI: an error event", { type: "error", code: "rate_limit_exceeded", message: "x", param: null }, rateLimitError],
  [
    "OpenAI: a failed response",
    { type: "response.failed", response: { error: { code: "server_error" } } },
    unavailableError,
  ],
  ["Anthropic: overloaded", { type: "error", error: { type: "overloaded_error", message: "x" } }, unavailableError],
  ["Anthropic: rate limit", { type: "error", error: { type: "rate_limit_error" } }, rateLimitError],
  ["Anthropic: an invalid key", { type: "error", error: { type: "authentication_error" } }, unauthorizedError],
  ["Anthropic: no permission", { type: "error", error: { type: "permission_error" } }, unauthorizedError],
  ["Anthropic: billing", { type: "error", error: { type: "billing_error" } }, noCreditError],
  [
    "Anthropic: no credit",
    { type: "error", error: { type: "invalid_request_error", message: "Your credit balance is too low to go on." } },
    noCreditError,
  ],
  [
    "Anthropic: prompt too long",
    { error: { type: "invalid_request_error", message: "prompt is too long: 9 > 8" } },
    refusedError,
  ],
  ["Google: rate limit", { error: { code: 429, status: "RESOURCE_EXHAUSTED" } }, { ...rateLimitError, status: 429 }],
  ["Google: an invalid key", { error: { code: 400, details: [{ reason: "API_KEY_INVALID" }] } }, unauthorizedError],
  ["Google: an invalid request", [{ error: { code: 400, status: "INVALID_ARGUMENT" } }], refusedError],
  ["Azure: rate limit", { error: { code: "RateLimitReached" } }, rateLimitError],
  ["DeepSeek: no credit", { error: { message: "Insufficient Balance", code: "unknown" } }, noCreditError],
  [
    "vLLM: an invalid request",
    { object: "error", message: "x", type: "BadRequestError", param: null, code: 400 },
    refusedError,
  ],
  ["vLLM: within a stream", { error: { object: "error", type: "NotFoundError", code: "404" } }, refusedError],
  [
    "OpenRouter: no credit",
    { error: { code: 402, message: "x" } },
    { ...noCreditError, providerCode: "402", status: 402 },
  ],
  [
    "OpenRouter: the provider's message",
    { error: { code: 502, message: "x", metadata: { raw: '{"error":{"code":"context_length_exceeded"}}' } } },
    { ...refusedError, providerCode: "context_length_exceeded" },
  ],
  ["an error within a string", { error: { message: '{"error":{"code":"invalid_api_key"}}' } }, unauthorizedError],
  [
    "an error nested twice",
    { error: { error: { error: { code: "model_not_found", param: "model" } } } },
    { param: "model" },
  ],
  ["a number as a string", { error: { code: "429" } }, rateLimitError],
  ["a status with its name", { error: { code: "400 Bad Request" } }, { ...refusedError, status: 400 }],
  ["an array of errors", { success: false, errors: [{ code: "invalid_api_key", message: "x" }] }, unauthorizedError],
  ["an error in detail", { detail: { error: { code: "model_not_found" } } }, refusedError],
  [
    "pydantic: an extra field",
    {
      detail: [
        { type: "extra_forbidden", loc: ["body", "messages", 0, "name"], msg: "Extra inputs are not permitted" },
      ],
    },
    { param: "messages.0.name", providerCode: "extra_forbidden" },
  ],
  [
    "Azure: content policy",
    { error: { code: "x", innererror: { code: "ResponsibleAIPolicyViolation" } } },
    refusedError,
  ],
  [
    "nested errors that are null",
    { error: { code: "rate_limit_exceeded", error: null, response: null } },
    rateLimitError,
  ],
  ["401", { error: { code: 401 } }, unauthorizedError],
  ["403", { code: "403" }, unauthorizedError],
  ["404", { error: { status: 404 } }, refusedError],
  ["413", { error: { status_code: "413" } }, refusedError],
  ["422", { error: { code: 422 } }, refusedError],
  ["503", { error: { code: 503, type: "invalid_request_error" } }, unavailableError],
  ["an error as a string", { error: "model 'x' is overloaded" }, unavailableError],
  ["wrong types", { error: { code: {}, type: [], message: 7, param: {}, status: null } }, unavailableError],
];

test.each(errorBodies)("%s: the error is the same over HTTP and in a stream", (_name, body, expected) => {
  expect(mapErrorFields(body, [])).toMatchObject(expected);
  expect(mapErrorText(JSON.stringify(body), [])).toMatchObject(expected);
  const { status: _, ...expectedOverHttp } = expected as { status?: number };
  const failure = { status: 500, headers: null, message: "500 x", body };
  expect(mapHttpFailure(failure, [])).toMatchObject({ ...expectedOverHttp, status: 500 });
});

test.each([
  ["only a general name", 401, { type: "invalid_request_error", code: null }, unauthorizedError],
  ["a vendor code", 400, { code: "1113" }, refusedError],
  ["no known field", 418, {}, refusedError],
  ["no content", 503, undefined, unavailableError],
] as const)("the HTTP status determines the error if the body has %s", (_name, status, body, expected) => {
  expect(mapHttpFailure({ status, headers: null, message: "no", body }, [])).toMatchObject({ ...expected, status });
});

test.each([
  [{ retry_after: 3 }, 3_000],
  [{ error: { code: 429, retry_after: "1.5" } }, 1_500],
  [{ error: { retry_after_ms: 250, retry_after: 9 } }, 250],
  [{ error: { details: [{ "@type": "RetryInfo", retryDelay: "34s" }] } }, 34_000],
  [{ retry_after: 1e300 }, 86_400_000],
  [{ retry_after: -1 }, null],
  [{ retry_after: "soon", retry_after_ms: {} }, null],
] as const)("the retry delay in the body %p is %p ms", (body, retryAfterMs) => {
  expect(mapErrorFields(body, []).retryAfterMs).toBe(retryAfterMs);
  expect(mapHttpFailure({ status: 429, headers: null, message: "", body }, []).retryAfterMs).toBe(retryAfterMs);
  const headers = new Headers({ "retry-after": "2" });
  expect(mapHttpFailure({ status: 429, headers, message: "", body }, []).retryAfterMs).toBe(2_000);
});

test.each([
  ["unsupported_value", "unsupported_value"],
  ["a sentence", null],
  ["x".repeat(65), null],
  ["sk-proj-abcdefghij", null],
  ["my-secret-word", null],
  [1234, "1234"],
  [null, null],
])("the provider's code %p is reported as %p", (code, expected) => {
  expect(mapErrorFields({ error: { code } }, ["my-secret-word"]).providerCode).toBe(expected);
});

test.each([
  ["messages[3].content", "messages[3].content"],
  ["tools.0.function.parameters", "tools.0.function.parameters"],
  ["two words", null],
  ["x".repeat(101), null],
  ["my-secret-word", null],
  ["a.my-secret-word", null],
  [7, null],
])("the parameter %p is reported as %p", (param, expected) => {
  expect(mapErrorFields({ error: { param } }, ["my-secret-word"]).param).toBe(expected);
});

test("a value whose error fields are missing or empty isn't an error", () => {
  for (const value of [{ error: null }, { error: {} }, { error: "" }, { error: false }, {}, [], "error", 7, null])
    expect(isErrorValue(value)).toBeFalse();
  expect(isErrorValue({ error: { message: "", code: null, status: 0 } })).toBeFalse();
  for (const value of [
    { error: { a: 1 } },
    { error: "x" },
    { error: true },
    { object: "error" },
    { type: "error" },
    { errors: [1] },
  ])
    expect(isErrorValue(value)).toBeTrue();
});

test("an account without credit isn't retried", () => {
  const failure = { status: 429, headers: null, message: "You exceeded your quota [insufficient_quota]" };
  expect(mapHttpFailure(failure, [])).toMatchObject({ code: "provider_rate_limited", retryable: false });
});

test.each([
  ["overloaded_error", "provider_unavailable", true],
  ["server_error", "provider_unavailable", true],
  ["rate_limit_exceeded", "provider_rate_limited", true],
  ["authentication_error", "provider_unauthorized", false],
  ["invalid_prompt", "provider_refused", false],
  ["context_length_exceeded", "provider_refused", false],
  ["503", "provider_unavailable", true],
])("the error event %s is mapped to %s, retryable: %p", (name, code, retryable) => {
  expect(mapErrorFields({ code: name, message: "no" })).toMatchObject({ code, retryable });
});

test.each([
  [{}, null],
  [{ "retry-after": "2" }, 2_000],
  [{ "retry-after": "0.5" }, 500],
  [{ "retry-after": "soon" }, null],
  [{ "retry-after": "-1" }, null],
  [{ "retry-after": "Sun, 01 Nov 2026 12:00:10 GMT" }, 10_000],
  [{ "retry-after": "Sun, 01 Nov 2026 11:00:00 GMT" }, 0],
  [{ "retry-after-ms": "150", "retry-after": "9" }, 150],
] as [Record<string, string>, number | null][])("the retry delay in the headers %p is %p ms", (headers, expected) => {
  expect(parseRetryAfter(new Headers(headers), Date.parse("2026-11-01T12:00:00Z"))).toBe(expected);
});

test("the cause contains no key, and is one short line", () => {
  const secret = "plainly-secret-value";
  const text = `bad key ${secret}\nsk-proj-abc_DEF123 Authorization: Bearer abc.def\n${"x".repeat(5_000)}`;
  const { cause } = createProviderError("provider_unavailable", text, { secrets: [secret] });
  expect(cause).toStartWith("bad key [key] [key] Authorization: [key] xxx");
  expect(cause.length).toBe(300);
});

test.each(["ollama", "EMPTY"])("a placeholder key such as %s isn't redacted from a cause", (secret) => {
  const message = 'model "a" not found, try ollama pull a, or EMPTY';
  const { cause } = createProviderError("provider_refused", message, { secrets: [secret] });
  expect(cause).toBe(message);
});

test("an error without the field `error` is distinguished from normal data", () => {
  for (const value of [
    { code: "InvalidParameter", message: "no" },
    { type: "BadRequestError", detail: "no" },
    { status_code: 503 },
    { code: "429" },
    { error: {} },
  ])
    expect(isBareError(value)).toBeTrue();
  for (const value of [
    null,
    [],
    {},
    { code: "QUEUED", message: "You are next." },
    { code: 200, message: "ok" },
    { type: "notice", message: "Hello." },
    { code: "invalid_api_key" },
  ])
    expect(isBareError(value)).toBeFalse();
});

test("a key at the cause's length limit is redacted before the cause is truncated", () => {
  const secret = "plainly-secret-value-of-a-key";
  for (let length = 250; length < 300; length += 1) {
    const message = `${"x".repeat(length)}${secret}`;
    const error = mapErrorFields({ error: { message } });
    expect(cleanError(error, [secret]).cause).not.toContain("plainly");
    const { cause } = cleanError(mapErrorFields({ error: { message: `Bearer ${secret} ${message}` } }), [secret]);
    expect(cause).not.toContain("plainly");
  }
});

test("a key is redacted completely, however long it is", () => {
  const key = Array.from({ length: 400 }, (_, index) => `part${index}-`).join("");
  const message = `Invalid key ${key}, and once more ${key}`;
  const redacted = "Invalid key [key], and once more [key]";
  expect(mapHttpFailure({ status: 401, headers: null, message }, [key]).cause).toBe(`HTTP 401: ${redacted}`);
  const error = mapErrorFields({ error: { message } });
  expect(cleanError(error, [key]).cause).toBe(`error event without a name: ${redacted}`);
});
