import { afterAll, beforeAll, expect, test } from "bun:test";
import fc from "fast-check";
import { type ExtraField, extraFields, hasField, isHint } from "../../src/ai/extra-fields.ts";
import { requestFields } from "../../src/modules/openai/request-fields.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { scaleRuns } from "../support/property-tests.ts";

let provider: MockProvider;
let parley: TestApp;
let anna: Account;

beforeAll(async () => {
  provider = startMockProvider();
  parley = await startApp({
    config: {
      OPENAI_API_KEY: "sk-test",
      OPENAI_BASE_URL: provider.openaiUrl,
      COMPATIBLE_BASE_URL: provider.openaiUrl,
      AI_MODELS: "openai/one,compatible/three",
      AI_MAX_RETRIES: "0",
    },
  });
  anna = await parley.register();
});
afterAll(async () => {
  await parley.stop();
  await provider.stop();
});

/** Values that are valid for many fields, so that some requests pass validation. */
const plausibleValues = fc.constantFrom<unknown>(
  0,
  1,
  0.5,
  2,
  true,
  false,
  "auto",
  "low",
  "none",
  "x",
  "",
  [],
  {},
  ["text"],
  null,
);
const arbitraryValue = fc.oneof(
  { weight: 4, arbitrary: plausibleValues },
  { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 2 }) },
);
/** Fields that the test sets itself, or that affect more than the provider's request. */
const excludedFields = new Set(["model", "messages", "stream", "response_format", "metadata"]);
const arbitraryFieldName = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.constantFrom(...Object.keys(requestFields).filter((field) => !excludedFields.has(field))),
  },
  { weight: 1, arbitrary: fc.string({ minLength: 1, maxLength: 8 }).filter((text) => !excludedFields.has(text)) },
);
const arbitraryRequest = fc.record({
  model: fc.constantFrom("openai/one", "compatible/three"),
  fields: fc.dictionary(arbitraryFieldName, arbitraryValue, { maxKeys: 4 }),
  messageFields: fc.dictionary(fc.constantFrom("name", "refusal", "audio", "tool_calls", "foo"), arbitraryValue, {
    maxKeys: 1,
  }),
});

const hasEffect = (field: string, requested: unknown): boolean =>
  requested !== null && !requestFields[field]?.isNeutral?.(requested);

test("a request with random fields succeeds or is rejected, and no field is silently ignored", async () => {
  let successCount = 0;
  await fc.assert(
    fc.asyncProperty(arbitraryRequest, async ({ model, fields, messageFields }) => {
      const messages = [{ role: "user", content: "Hello", ...messageFields }];
      const requestCountBefore = provider.requests.length;
      const json = { model, messages, ...fields };
      const response = await parley.fetch("/v1/chat/completions", { token: anna.access_token, json });
      const { error } = (await response.json()) as { error?: { type: string; param: string | null } };
      if (response.status !== 200) {
        expect([response.status, error?.type]).toEqual([400, "invalid_request_error"]);
        expect(error?.param).toBeString();
        expect(provider.requests.length).toBe(requestCountBefore);
        return;
      }
      successCount += 1;
      const requestedFields = Object.entries(fields).filter(([field, value]) => hasEffect(field, value));
      expect(
        requestedFields.filter(
          ([field]) => !["mapped", "forwarded", "ignored"].includes(requestFields[field]?.treatment ?? ""),
        ),
      ).toEqual([]);
      expect(Object.entries(messageFields).filter(([field, value]) => value !== null && field === "foo")).toEqual([]);
      const providerBody = provider.requests.at(-1)?.body ?? {};
      for (const [field, value] of requestedFields) {
        if (!extraFields.includes(field as ExtraField)) continue;
        const isForwarded = hasField(model === "openai/one" ? "responses" : "chat", field as ExtraField);
        expect(isForwarded || isHint(field as ExtraField)).toBe(true);
        if (isForwarded)
          expect(
            field === "verbosity" && model === "openai/one" ? providerBody.text : { [field]: providerBody[field] },
          ).toEqual({
            [field]: value,
          });
      }
    }),
    { numRuns: scaleRuns(300) },
  );
  expect(successCount).toBeGreaterThan(20);
});
