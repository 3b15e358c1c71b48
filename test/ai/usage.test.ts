import { expect, test } from "bun:test";
import { countUsage } from "../../src/ai/attempt/usage.ts";
import { createBill } from "../../src/ai/chain/bill.ts";
import { createCatalog } from "../../src/ai/models.ts";
import { estimateTokens, estimateTotalTokens } from "../../src/ai/tokens.ts";
import { addUsage, mergeUsageReports, noUsage, USAGE_TOKENS_MAX } from "../../src/ai/usage.ts";

const question = { role: "user" as const, content: "What is the capital of France, and of Germany?" };
const request = { messages: [question], partial: null, options: {} };
const attempt = {
  providerRequest: request,
  hasOutput: false,
  getWrittenText: () => "",
  toolCalls: [],
  reasoning: "",
  reported: null,
  isOutputFinal: false,
};
const promptTokens = estimateTotalTokens([question]);

test("usage reported at the end is used unchanged", () => {
  const reported = { ...noUsage, input_tokens: 3, output_tokens: 4 };
  const finalAttempt = { ...attempt, hasOutput: true, reported, isOutputFinal: true };
  expect(countUsage(finalAttempt)).toEqual({ ...reported, estimated: false });
});

test("a request that failed before any activity costs nothing, unless the provider reports usage", () => {
  expect(countUsage(attempt)).toBeNull();
  expect(countUsage({ ...attempt, reported: { ...noUsage, input_tokens: null, output_tokens: null } })).toBeNull();
  const reported = { ...noUsage, input_tokens: 200_000, output_tokens: 0 };
  expect(countUsage({ ...attempt, reported })).toEqual({ ...reported, estimated: false });
});

test("the estimated usage of a truncated answer is never below the reported usage", () => {
  const text = "Paris, and Berlin.";
  const truncatedAttempt = { ...attempt, hasOutput: true, getWrittenText: () => text };
  const estimate = { ...noUsage, input_tokens: promptTokens, output_tokens: estimateTokens(text) };
  expect(countUsage(truncatedAttempt)).toEqual({ ...estimate, estimated: true });
  const toolCalls = [{ id: "1", name: "look_up", arguments: '{"word":"Paris"}' }];
  const withCalls = countUsage({ ...truncatedAttempt, toolCalls });
  expect(withCalls?.output_tokens).toBe(estimate.output_tokens + estimateTokens('look_up{"word":"Paris"}'));
  const reported = { ...noUsage, input_tokens: 100, output_tokens: 200 };
  expect(countUsage({ ...truncatedAttempt, reported })).toEqual({ ...reported, estimated: true });
  const earlierReport = { ...noUsage, input_tokens: 100, output_tokens: 1 };
  expect(countUsage({ ...truncatedAttempt, reported: earlierReport })?.output_tokens).toBe(estimate.output_tokens);
});

test("reasoning without an answer is billed by estimate, and hidden reasoning costs at least the prompt", () => {
  const reasoning = "First the capital of France, then that of Germany.";
  const tokens = estimateTokens(reasoning);
  const withReasoning = { ...attempt, hasOutput: true, reasoning };
  const estimate = { ...noUsage, input_tokens: promptTokens, output_tokens: tokens, reasoning_tokens: tokens };
  expect(countUsage(withReasoning)).toEqual({ ...estimate, estimated: true });
  expect(countUsage({ ...attempt, hasOutput: true })).toEqual({
    ...noUsage,
    input_tokens: promptTokens,
    estimated: true,
  });
});

test("the prompt estimate includes the start of the answer and the tools", () => {
  const partial = "Paris is the capital of France, and";
  const tools = [{ name: "look_up", description: "Looks a word up.", parameters: { type: "object" } }];
  const usage = countUsage({
    ...attempt,
    hasOutput: true,
    providerRequest: { ...request, partial, options: { tools } },
  });
  expect(usage?.input_tokens).toBe(promptTokens + estimateTokens(partial) + estimateTokens(JSON.stringify(tools)));
});

test("if only one reported count is valid, the other one is estimated", () => {
  const finalAttempt = { ...attempt, hasOutput: true, getWrittenText: () => "Paris, and Berlin.", isOutputFinal: true };
  const onlyOutput = { ...noUsage, input_tokens: null, output_tokens: 7 };
  expect(countUsage({ ...finalAttempt, reported: onlyOutput })).toEqual({
    ...noUsage,
    input_tokens: promptTokens,
    output_tokens: 7,
    estimated: true,
  });
  const onlyInput = { ...noUsage, input_tokens: 9, output_tokens: null, cached_input_tokens: 4 };
  expect(countUsage({ ...finalAttempt, reported: onlyInput, isOutputFinal: false })).toEqual({
    ...noUsage,
    input_tokens: 9,
    output_tokens: estimateTokens("Paris, and Berlin."),
    cached_input_tokens: 4,
    estimated: true,
  });
});

test("a prompt count that isn't reported includes at least the tokens read from and written to the cache", () => {
  const reported = {
    ...noUsage,
    input_tokens: null,
    output_tokens: 7,
    cached_input_tokens: 5_000,
    cache_write_tokens: 300,
  };
  expect(countUsage({ ...attempt, hasOutput: true, reported, isOutputFinal: true })).toMatchObject({
    input_tokens: 5_300,
    cached_input_tokens: 5_000,
    cache_write_tokens: 300,
    estimated: true,
  });
});

test("no detail exceeds its total, so that no cost is negative", () => {
  const reported = {
    input_tokens: 10,
    output_tokens: 5,
    cached_input_tokens: 8,
    cache_write_tokens: 8,
    reasoning_tokens: 9,
  };
  expect(countUsage({ ...attempt, hasOutput: true, reported, isOutputFinal: true })).toEqual({
    input_tokens: 10,
    output_tokens: 5,
    cached_input_tokens: 8,
    cache_write_tokens: 2,
    reasoning_tokens: 5,
    estimated: false,
  });
});

test("a later count replaces an earlier one, but a missing count doesn't", () => {
  const earlierReport = { ...noUsage, input_tokens: 40, output_tokens: 1, cached_input_tokens: 30 };
  const laterReport = { ...noUsage, input_tokens: null, output_tokens: 12 };
  expect(mergeUsageReports(earlierReport, laterReport)).toEqual({ ...earlierReport, output_tokens: 12 });
  expect(mergeUsageReports(laterReport, { ...noUsage, input_tokens: 50, output_tokens: null })).toEqual({
    ...noUsage,
    input_tokens: 50,
    output_tokens: 12,
  });
  expect([mergeUsageReports(null, laterReport), mergeUsageReports(laterReport, null)]).toEqual([
    laterReport,
    laterReport,
  ]);
});

test("the cost is the sum of all attempts, or unknown if one of them has no price", () => {
  const recordedEvents: [string, string | number, number?][] = [];
  const bill = createBill(createCatalog().prices, {
    onCost: (model, usd) => recordedEvents.push([model, usd]),
    onTokens: (model, kind, count) => recordedEvents.push([model, kind, count]),
  });
  expect(bill.getTotal()).toEqual({ usage: null, costUsd: null });
  bill.add("openai/gpt-5.2", null);
  expect(bill.getTotal()).toEqual({ usage: null, costUsd: null });
  bill.add("anthropic/claude-opus-4-6", { ...noUsage, input_tokens: 200_000, output_tokens: 0, estimated: false });
  expect(bill.getTotal()).toEqual({
    usage: { ...noUsage, input_tokens: 200_000, output_tokens: 0, estimated: false },
    costUsd: 1,
  });
  bill.add("compatible/own", { ...noUsage, input_tokens: 1, output_tokens: 2, estimated: true });
  expect(bill.getTotal()).toEqual({
    usage: { ...noUsage, input_tokens: 200_001, output_tokens: 2, estimated: true },
    costUsd: null,
  });
  expect(recordedEvents).toEqual([
    ["anthropic/claude-opus-4-6", "input", 200_000],
    ["anthropic/claude-opus-4-6", "output", 0],
    ["anthropic/claude-opus-4-6", 1],
    ["compatible/own", "input", 1],
    ["compatible/own", "output", 2],
  ]);
});

test("a sum is limited to the storable maximum", () => {
  const hugeUsage = { ...noUsage, input_tokens: USAGE_TOKENS_MAX, output_tokens: 1, estimated: false };
  expect(addUsage(hugeUsage, hugeUsage)).toEqual({ ...hugeUsage, output_tokens: 2 });
});
