import { expect, test } from "bun:test";
import { createProviderError, mapErrorEvent, mapHttpFailure, parseRetryAfter } from "../../src/ai/provider-error.ts";

test.each([
  [null, "provider_unavailable", true],
  [400, "provider_refused", false],
  [401, "provider_unauthorized", false],
  [402, "provider_refused", false],
  [403, "provider_unauthorized", false],
  [404, "provider_refused", false],
  [408, "provider_unavailable", true],
  [409, "provider_unavailable", true],
  [413, "provider_refused", false],
  [422, "provider_refused", false],
  [429, "provider_rate_limited", true],
  [500, "provider_unavailable", true],
  [529, "provider_unavailable", true],
] as const)("HTTP %p is %s, retryable: %p", (status, code, retryable) => {
  expect(mapHttpFailure({ status, headers: null, message: "no" }, [])).toMatchObject({ code, retryable });
});

test("an empty account is not asked again", () => {
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
])("the error event %s is %s, retryable: %p", (name, code, retryable) => {
  expect(mapErrorEvent(name, "no", [])).toMatchObject({ code, retryable });
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
] as [Record<string, string>, number | null][])("Retry-After %p is %p ms", (headers, expected) => {
  expect(parseRetryAfter(new Headers(headers), Date.parse("2026-11-01T12:00:00Z"))).toBe(expected);
});

test("the cause holds no key, is one line and short", () => {
  const secret = "plainly-secret-value";
  const text = `bad key ${secret}\nsk-proj-abc_DEF123 Authorization: Bearer abc.def\n${"x".repeat(5_000)}`;
  const { cause } = createProviderError("provider_unavailable", text, { secrets: [secret] });
  expect(cause).toStartWith("bad key [key] [key] Authorization: [key] xxx");
  expect(cause.length).toBe(300);
});
