import { expect, test } from "bun:test";
import { createFailureLog } from "../../src/ai/chain/failure-log.ts";
import type { ProviderErrorCode } from "../../src/ai/provider.ts";
import { createProviderError } from "../../src/ai/provider-error.ts";
import { createExplainFailure } from "../../src/ai/providers/explain-failure.ts";
import { createTestLog } from "../support/log.ts";

const context = { message_id: "m1", request_id: "r1" };
const KEY = "sk-hunter2hunter2";

function createTestFailures() {
  const { log, lines } = createTestLog();
  let nowMs = 0;
  const failures = createFailureLog({ log, explain: () => "do this", now: () => nowMs });
  const logged = (level: string) => lines.filter((line) => line.level === level);
  return {
    logged,
    pass(ms: number) {
      nowMs += ms;
    },
    fail: (code: ProviderErrorCode, model = "openai/a") =>
      failures.record({ model, error: createProviderError(code, "cause") }, context, 0),
  };
}

test("a rejected key is logged as an error once a minute per provider, however many answers fail", () => {
  const { logged, pass, fail } = createTestFailures();
  for (let count = 0; count < 100; count += 1) fail("provider_unauthorized");
  fail("provider_unauthorized", "openai/other");
  expect(logged("error")).toMatchObject([
    { ...context, model: "openai/a", code: "provider_unauthorized", msg: "do this" },
  ]);
  expect(logged("warn")).toEqual([]);
  expect(logged("debug")).toHaveLength(100);
  fail("provider_unauthorized", "anthropic/a");
  expect(logged("error")).toHaveLength(2);
  pass(60_000);
  fail("provider_unauthorized");
  expect(logged("error")).toHaveLength(3);
});

test("failures of a model are logged as warnings with their context, 20 in ten seconds, and the rest is counted", () => {
  const { logged, pass, fail } = createTestFailures();
  for (let count = 0; count < 50; count += 1) fail("provider_unavailable");
  fail("provider_timeout", "openai/b");
  expect(logged("warn")).toHaveLength(21);
  expect(logged("warn")[0]).toMatchObject({ ...context, model: "openai/a", msg: "model failed: do this" });
  pass(10_000);
  fail("provider_unavailable");
  fail("provider_unavailable");
  expect(logged("warn").slice(21)).toMatchObject([{ lines_left_out: 30 }, { model: "openai/a" }]);
  expect(logged("warn").at(-1)).not.toHaveProperty("lines_left_out");
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
type Extra = Parameters<typeof createProviderError>[2];

const cases: [
  model: string,
  code: ProviderErrorCode,
  more: Extra & { cause?: string; set?: object },
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
    { status: 401, set: { COMPATIBLE_API_KEY: KEY } },
    /^COMPATIBLE_API_KEY was rejected/,
  ],
  [
    "compatible/a",
    "provider_refused",
    { status: 404, set: { COMPATIBLE_BASE_URL: "http://localhost:11434" } },
    /^localhost:11434 answered 404: COMPATIBLE_BASE_URL has no \/v1 at its end/,
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
    { status: 404, set: { OPENAI_BASE_URL: "https://proxy.example/" } },
    /OPENAI_BASE_URL has no \/v1/,
  ],
  [
    "anthropic/a",
    "provider_refused",
    { status: 404, set: { ANTHROPIC_BASE_URL: "https://proxy.example/v1" } },
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
  "%s, %s %o: the remedy names the setting, and no secret",
  (model, code, { cause = "x", set, ...extra }, remedy) => {
    const explained = createExplainFailure({ ...config, ...set })(model, createProviderError(code, cause, extra));
    if (remedy === null) expect(explained).toBeNull();
    else expect(explained).toMatch(remedy);
    expect(explained ?? "").not.toContain("hunter2");
  },
);
