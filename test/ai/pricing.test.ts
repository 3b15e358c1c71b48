import { expect, test } from "bun:test";
import { createLedger } from "../../src/ai/ledger.ts";
import { calculateCostUsd, defaultPrices } from "../../src/ai/pricing.ts";

const million = { input_tokens: 1_000_000, output_tokens: 1_000_000 };

test.each([
  ["openai/gpt-5.2", 15.75],
  ["openai/gpt-4o-2024-08-06", 12.5],
  ["anthropic/claude-haiku-4-5-20251001", 6],
  ["offline/documents", 0],
  ["openai/gpt-5.2-unheard-of", null],
  ["compatible/gpt-5.2", null],
  ["constructor", null],
])("a million tokens in and out of %s cost %p", (model, cost) => {
  expect(calculateCostUsd(model, million, defaultPrices)).toBe(cost);
});

test("prices can be given", () => {
  expect(calculateCostUsd("compatible/own", million, { "compatible/own": { input: 1, output: 2 } })).toBe(3);
});

test("a request that failed before its first character costs nothing, unless the provider said so", () => {
  const ledger = createLedger([{ role: "user", content: "x".repeat(400) }], defaultPrices);
  ledger.open("openai/gpt-5.2");
  expect(ledger.close()).toEqual({ usage: null, costUsd: null });
  ledger.open("anthropic/claude-opus-4-6").reported = { input_tokens: 200_000, output_tokens: 0 };
  expect(ledger.close()).toEqual({
    usage: { input_tokens: 200_000, output_tokens: 0, estimated: false },
    costUsd: 1,
  });
});
