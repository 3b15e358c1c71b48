import { expect, test } from "bun:test";
import { countUsage } from "../../src/ai/attempt/usage.ts";
import { createBill } from "../../src/ai/chain/bill.ts";
import { createCatalogue } from "../../src/ai/models.ts";
import { countMessages, estimateTokens } from "../../src/ai/tokens.ts";

const question = { role: "user" as const, content: "What is the capital of France, and of Germany?" };
const record = {
  messages: [question],
  hasText: false,
  readWritten: () => "",
  toolCalls: [],
  reported: null,
  isFinal: false,
};

test("what the provider reported at the end counts as it is", () => {
  const reported = { input_tokens: 3, output_tokens: 4 };
  const ended = { ...record, hasText: true, reported, isFinal: true };
  expect(countUsage(ended)).toEqual({ ...reported, estimated: false });
});

test("a request that failed before its first character costs nothing, unless the provider said so", () => {
  expect(countUsage(record)).toBeNull();
  const reported = { input_tokens: 200_000, output_tokens: 0 };
  expect(countUsage({ ...record, reported })).toEqual({ ...reported, estimated: false });
});

test("what broke off is estimated, as everywhere, and never below what was reported", () => {
  const written = "Paris, and Berlin.";
  const broken = { ...record, hasText: true, readWritten: () => written };
  const estimate = { input_tokens: countMessages([question]), output_tokens: estimateTokens(written) };
  expect(countUsage(broken)).toEqual({ ...estimate, estimated: true });
  const toolCalls = [{ id: "1", name: "look_up", arguments: '{"word":"Paris"}' }];
  const withCalls = countUsage({ ...broken, toolCalls });
  expect(withCalls?.output_tokens).toBe(estimate.output_tokens + estimateTokens('look_up{"word":"Paris"}'));
  const reported = { input_tokens: 100, output_tokens: 200 };
  expect(countUsage({ ...broken, reported })).toEqual({ ...reported, estimated: true });
});

test("a bill sums its attempts; one without a known price makes the cost unknown", () => {
  const costs: [string, number][] = [];
  const bill = createBill(createCatalogue().prices, (model, usd) => costs.push([model, usd]));
  expect(bill.sum()).toEqual({ usage: null, costUsd: null });
  bill.add("openai/gpt-5.2", null);
  expect(bill.sum()).toEqual({ usage: null, costUsd: null });
  bill.add("anthropic/claude-opus-4-6", { input_tokens: 200_000, output_tokens: 0, estimated: false });
  expect(bill.sum()).toEqual({ usage: { input_tokens: 200_000, output_tokens: 0, estimated: false }, costUsd: 1 });
  bill.add("compatible/own", { input_tokens: 1, output_tokens: 2, estimated: true });
  expect(bill.sum()).toEqual({ usage: { input_tokens: 200_001, output_tokens: 2, estimated: true }, costUsd: null });
  expect(costs).toEqual([["anthropic/claude-opus-4-6", 1]]);
});
