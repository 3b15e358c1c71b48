import { afterAll, beforeAll, expect, test } from "bun:test";
import fc from "fast-check";
import { type ExtraField, extraFields, hasField, isHint } from "../../src/ai/extra-fields.ts";
import { requestFields } from "../../src/modules/openai/request-fields.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { countRuns } from "../support/properties.ts";

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

/** Values that suit many fields, so that some requests pass the first validation error. */
const plausible = fc.constantFrom<unknown>(
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
const value = fc.oneof({ weight: 4, arbitrary: plausible }, { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 2 }) });
/** Fields that every request needs to succeed, and those that `response_format` requires of models. */
const given = new Set(["model", "messages", "stream", "response_format", "metadata"]);
const name = fc.oneof(
  { weight: 8, arbitrary: fc.constantFrom(...Object.keys(requestFields).filter((field) => !given.has(field))) },
  { weight: 1, arbitrary: fc.string({ minLength: 1, maxLength: 8 }).filter((text) => !given.has(text)) },
);
const request = fc.record({
  model: fc.constantFrom("openai/one", "compatible/three"),
  fields: fc.dictionary(name, value, { maxKeys: 4 }),
  ofMessage: fc.dictionary(fc.constantFrom("name", "refusal", "audio", "tool_calls", "foo"), value, { maxKeys: 1 }),
});

const hasEffect = (field: string, requested: unknown): boolean =>
  requested !== null && !requestFields[field]?.isNeutral?.(requested);

test("a request with random fields succeeds or is refused, and no field is silently ignored", async () => {
  let answered = 0;
  await fc.assert(
    fc.asyncProperty(request, async ({ model, fields, ofMessage }) => {
      const messages = [{ role: "user", content: "Hello", ...ofMessage }];
      const before = provider.requests.length;
      const json = { model, messages, ...fields };
      const response = await parley.fetch("/v1/chat/completions", { token: anna.access_token, json });
      const { error } = (await response.json()) as { error?: { type: string; param: string | null } };
      if (response.status !== 200) {
        expect([response.status, error?.type]).toEqual([400, "invalid_request_error"]);
        expect(error?.param).toBeString();
        expect(provider.requests.length).toBe(before);
        return;
      }
      answered += 1;
      const requested = Object.entries(fields).filter(([field, wanted]) => hasEffect(field, wanted));
      expect(
        requested.filter(
          ([field]) => !["mapped", "forwarded", "ignored"].includes(requestFields[field]?.treatment ?? ""),
        ),
      ).toEqual([]);
      expect(Object.entries(ofMessage).filter(([field, wanted]) => wanted !== null && field === "foo")).toEqual([]);
      const sent = provider.requests.at(-1)?.body ?? {};
      for (const [field, wanted] of requested) {
        if (!extraFields.includes(field as ExtraField)) continue;
        const isTaken = hasField(model === "openai/one" ? "responses" : "chat", field as ExtraField);
        expect(isTaken || isHint(field as ExtraField)).toBe(true);
        if (isTaken)
          expect(field === "verbosity" && model === "openai/one" ? sent.text : { [field]: sent[field] }).toEqual({
            [field]: wanted,
          });
      }
    }),
    { numRuns: countRuns(300) },
  );
  expect(answered).toBeGreaterThan(20);
});
