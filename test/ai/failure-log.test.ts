import { expect, test } from "bun:test";
import { createFailureLog } from "../../src/ai/chain/failure-log.ts";
import type { ProviderErrorCode } from "../../src/ai/provider.ts";
import { createProviderError } from "../../src/ai/provider-error.ts";
import { createFailureExplainer } from "../../src/ai/providers/explain-failure.ts";
import { createTestLog } from "../support/log.ts";

const context = { message_id: "m1", request_id: "r1" };
const KEY = "sk-hunter2hunter2";

function createTestFailureLog() {
  const { log, lines } = createTestLog();
  let nowMs = 0;
  const failures = createFailureLog({ log, explain: () => "do this", now: () => nowMs });
  const listLines = (level: string) => lines.filter((line) => line.level === level);
  return {
    listLines,
    advance(ms: number) {
      nowMs += ms;
    },
    recordFailure: (code: ProviderErrorCode, model = "openai/a") =>
      failures.record({ model, error: createProviderError(code, "cause") }, context, 0),
  };
}

test("a rejected key is logged as an error once a minute per provider, however many answers fail", () => {
  const { listLines, advance, recordFailure } = createTestFailureLog();
  for (let count = 0; count < 100; count += 1) recordFailure("provider_unauthorized");
  recordFailure("provider_unauthorized", "openai/other");
  expect(listLines("error")).toMatchObject([
    { ...context, model: "openai/a", code: "provider_unauthorized", msg: "do this" },
  ]);
  expect(listLines("warn")).toEqual([]);
  expect(listLines("debug")).toHaveLength(100);
  recordFailure("provider_unauthorized", "anthropic/a");
  expect(listLines("error")).toHaveLength(2);
  advance(60_000);
  recordFailure("provider_unauthorized");
  expect(listLines("error")).toHaveLength(3);
});

test("a model's failures are logged as warnings with context, at most 20 in ten seconds, and the omitted warnings are counted", () => {
  const { listLines, advance, recordFailure } = createTestFailureLog();
  for (let count = 0; count < 50; count += 1) recordFailure("provider_unavailable");
  recordFailure("provider_timeout", "openai/b");
  expect(listLines("warn")).toHaveLength(21);
  expect(listLines("warn")[0]).toMatchObject({ ...context, model: "openai/a", msg: "model failed: do this" });
  advance(10_000);
  recordFailure("provider_unavailable");
  recordFailure("provider_unavailable");
  expect(listLines("warn").slice(21)).toMatchObject([{ lines_left_out: 30 }, { model: "openai/a" }]);
  expect(listLines("warn").at(-1)).not.toHaveProperty("lines_left_out");
});

const config = {
  OPENAI_API_KEY: KEY,
  OPENAI_BASE_URL: undefined as string | undefined,
  ANTHROPIC_API_KEY: KEY,
  ANTHROPIC_BASE_URL: undefined as string | undefined,
  COMPATIBLE_API_KEY: undefined as string | undefined,
  COMPATIBLE_BASE_URL: "http://u:hunter2@models.example:8080/v1",
  AI_MODELS: [],
};
type ErrorDetails = Parameters<typeof createProviderError>[2];

const cases: [
  model: string,
  code: ProviderErrorCode,
  failure: ErrorDetails & { cause?: string; settings?: object },
  remedy: RegExp | null,
][] = [
  [
    "openai/a",
    "provider_unauthorized",
    { status: 401 },
    /^OPENAI_API_KEY was rejected by api\.openai\.com \(HTTP 401\): check it/,
  ],
  [
    "anthropic/a",
    "provider_unauthorized",
    { status: 403 },
    /^ANTHROPIC_API_KEY was rejected by api\.anthropic\.com \(HTTP 403\)/,
  ],
  ["openai/a", "provider_unauthorized", {}, /^OPENAI_API_KEY was rejected by api\.openai\.com: check it/],
  [
    "compatible/a",
    "provider_unauthorized",
    { status: 401 },
    /^models\.example:8080 requires a key \(HTTP 401\): set COMPATIBLE_API_KEY$/,
  ],
  [
    "compatible/a",
    "provider_unauthorized",
    { status: 401, settings: { COMPATIBLE_API_KEY: KEY } },
    /^COMPATIBLE_API_KEY was rejected/,
  ],
  [
    "compatible/a",
    "provider_refused",
    { status: 404, settings: { COMPATIBLE_BASE_URL: "http://localhost:11434" } },
    /^localhost:11434 responded with 404: COMPATIBLE_BASE_URL has no \/v1 at its end/,
  ],
  [
    "compatible/a",
    "provider_refused",
    { status: 404 },
    /^models\.example:8080 has no model a \(404\): check its name in AI_MODELS, and COMPATIBLE_BASE_URL$/,
  ],
  [
    "openai/a",
    "provider_refused",
    { status: 404 },
    /^api\.openai\.com has no model a \(404\): check its name in AI_MODELS$/,
  ],
  [
    "openai/a",
    "provider_refused",
    { status: 404, settings: { OPENAI_BASE_URL: "https://proxy.example/" } },
    /OPENAI_BASE_URL has no \/v1/,
  ],
  [
    "anthropic/a",
    "provider_refused",
    { status: 404, settings: { ANTHROPIC_BASE_URL: "https://proxy.example/v1" } },
    /leave \/v1 out of ANTHROPIC_BASE_URL/,
  ],
  ["compatible/a", "provider_unavailable", { cause: "Unable to connect (ECONNREFUSED)" }, /check COMPATIBLE_BASE_URL/],
  [
    "compatible/a",
    "provider_unavailable",
    { cause: "Connection error. (the proxy p:1 can't be used (getaddrinfo ENOTFOUND p): check HTTP_PROXY)" },
    null,
  ],
  ["openai/a", "provider_rate_limited", { status: 429, retryable: false }, /no credit left: check its billing$/],
  ["openai/a", "provider_rate_limited", { status: 429 }, null],
  ["openai/a", "provider_unavailable", { status: 503 }, null],
  ["offline/documents", "provider_unavailable", {}, null],
];

test.each(cases)(
  "the remedy for %s, %s %o mentions the setting but no secret",
  (model, code, { cause = "x", settings, ...extra }, remedy) => {
    const remedyMessage = createFailureExplainer({ ...config, ...settings })(
      model,
      createProviderError(code, cause, extra),
    );
    if (remedy === null) expect(remedyMessage).toBeNull();
    else expect(remedyMessage).toMatch(remedy);
    expect(remedyMessage ?? "").not.toContain("hunter2");
  },
);
