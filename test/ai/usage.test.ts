import { expect, test } from "bun:test";
import { countUsage } from "../../src/ai/attempt/usage.ts";
import { createBill } from "../../src/ai/chain/bill.ts";
import { createCatalog } from "../../src/ai/models.ts";
import { countMessages, estimateTokens } from "../../src/ai/tokens.ts";
import { addUsage, mergeReports, noUsage, USAGE_TOKENS_MAX } from "../../src/ai/usage.ts";

const question = { role: "user" as const, content: "What is the capital of France, and of Germany?" };
const request = { messages: [question], partial: null, options: {} };
const record = {
  providerRequest: request,
  hasOutput: false,
  readWritten: () => "",
  toolCalls: [],
  reasoning: "",
  reported: null,
  isFinal: false,
};
const promptTokens = countMessages([question]);

test("usage reported at the end is used unchanged", () => {
  const reported = { ...noUsage, input_tokens: 3, output_tokens: 4 };
  const ended = { ...record, hasOutput: true, reported, isFinal: true };
  expect(countUsage(ended)).toEqual({ ...reported, estimated: false });
});

test("a request that failed before any activity costs nothing, unless the provider reports usage", () => {
  expect(countUsage(record)).toBeNull();
  expect(countUsage({ ...record, reported: { ...noUsage, input_tokens: null, output_tokens: null } })).toBeNull();
  const reported = { ...noUsage, input_tokens: 200_000, output_tokens: 0 };
  expect(countUsage({ ...record, reported })).toEqual({ ...reported, estimated: false });
});

test("a broken-off answer is estimated, and never below the reported usage", () => {
  const written = "Paris, and Berlin.";
  const broken = { ...record, hasOutput: true, readWritten: () => written };
  const estimate = { ...noUsage, input_tokens: promptTokens, output_tokens: estimateTokens(written) };
  expect(countUsage(broken)).toEqual({ ...estimate, estimated: true });
  const toolCalls = [{ id: "1", name: "look_up", arguments: '{"word":"Paris"}' }];
  const withCalls = countUsage({ ...broken, toolCalls });
  expect(withCalls?.output_tokens).toBe(estimate.output_tokens + estimateTokens('look_up{"word":"Paris"}'));
  const reported = { ...noUsage, input_tokens: 100, output_tokens: 200 };
  expect(countUsage({ ...broken, reported })).toEqual({ ...reported, estimated: true });
  const early = { ...noUsage, input_tokens: 100, output_tokens: 1 };
  expect(countUsage({ ...broken, reported: early })?.output_tokens).toBe(estimate.output_tokens);
});

test("reasoning without an answer costs its estimate, and hidden reasoning at least the prompt", () => {
  const reasoning = "First the capital of France, then that of Germany.";
  const tokens = estimateTokens(reasoning);
  const thought = { ...record, hasOutput: true, reasoning };
  const estimate = { ...noUsage, input_tokens: promptTokens, output_tokens: tokens, reasoning_tokens: tokens };
  expect(countUsage(thought)).toEqual({ ...estimate, estimated: true });
  expect(countUsage({ ...record, hasOutput: true })).toEqual({
    ...noUsage,
    input_tokens: promptTokens,
    estimated: true,
  });
});

test("the prompt estimate includes the start of the answer and the tools", () => {
  const partial = "Paris is the capital of France, and";
  const tools = [{ name: "look_up", description: "Looks a word up.", parameters: { type: "object" } }];
  const usage = countUsage({
    ...record,
    hasOutput: true,
    providerRequest: { ...request, partial, options: { tools } },
  });
  expect(usage?.input_tokens).toBe(promptTokens + estimateTokens(partial) + estimateTokens(JSON.stringify(tools)));
});

test("in a report with one valid number, the other one is estimated", () => {
  const ended = { ...record, hasOutput: true, readWritten: () => "Paris, and Berlin.", isFinal: true };
  const onlyOutput = { ...noUsage, input_tokens: null, output_tokens: 7 };
  expect(countUsage({ ...ended, reported: onlyOutput })).toEqual({
    ...noUsage,
    input_tokens: promptTokens,
    output_tokens: 7,
    estimated: true,
  });
  const onlyInput = { ...noUsage, input_tokens: 9, output_tokens: null, cached_input_tokens: 4 };
  expect(countUsage({ ...ended, reported: onlyInput, isFinal: false })).toEqual({
    ...noUsage,
    input_tokens: 9,
    output_tokens: estimateTokens("Paris, and Berlin."),
    cached_input_tokens: 4,
    estimated: true,
  });
});

test("an uncounted prompt is at least as long as its tokens read from and written to the cache", () => {
  const reported = {
    ...noUsage,
    input_tokens: null,
    output_tokens: 7,
    cached_input_tokens: 5_000,
    cache_write_tokens: 300,
  };
  expect(countUsage({ ...record, hasOutput: true, reported, isFinal: true })).toMatchObject({
    input_tokens: 5_300,
    cached_input_tokens: 5_000,
    cache_write_tokens: 300,
    estimated: true,
  });
});

test("no part exceeds its total, so that no cost is negative", () => {
  const reported = {
    input_tokens: 10,
    output_tokens: 5,
    cached_input_tokens: 8,
    cache_write_tokens: 8,
    reasoning_tokens: 9,
  };
  expect(countUsage({ ...record, hasOutput: true, reported, isFinal: true })).toEqual({
    input_tokens: 10,
    output_tokens: 5,
    cached_input_tokens: 8,
    cache_write_tokens: 2,
    reasoning_tokens: 5,
    estimated: false,
  });
});

test("a later number replaces an earlier one, but a missing one doesn't", () => {
  const early = { ...noUsage, input_tokens: 40, output_tokens: 1, cached_input_tokens: 30 };
  const late = { ...noUsage, input_tokens: null, output_tokens: 12 };
  expect(mergeReports(early, late)).toEqual({ ...early, output_tokens: 12 });
  expect(mergeReports(late, { ...noUsage, input_tokens: 50, output_tokens: null })).toEqual({
    ...noUsage,
    input_tokens: 50,
    output_tokens: 12,
  });
  expect([mergeReports(null, late), mergeReports(late, null)]).toEqual([late, late]);
});

test("the cost is the sum of all attempts; without a price for one of them it is unknown", () => {
  const recorded: [string, string | number, number?][] = [];
  const bill = createBill(createCatalog().prices, {
    onCost: (model, usd) => recorded.push([model, usd]),
    onTokens: (model, kind, count) => recorded.push([model, kind, count]),
  });
  expect(bill.sum()).toEqual({ usage: null, costUsd: null });
  bill.add("openai/gpt-5.2", null);
  expect(bill.sum()).toEqual({ usage: null, costUsd: null });
  bill.add("anthropic/claude-opus-4-6", { ...noUsage, input_tokens: 200_000, output_tokens: 0, estimated: false });
  expect(bill.sum()).toEqual({
    usage: { ...noUsage, input_tokens: 200_000, output_tokens: 0, estimated: false },
    costUsd: 1,
  });
  bill.add("compatible/own", { ...noUsage, input_tokens: 1, output_tokens: 2, estimated: true });
  expect(bill.sum()).toEqual({
    usage: { ...noUsage, input_tokens: 200_001, output_tokens: 2, estimated: true },
    costUsd: null,
  });
  expect(recorded).toEqual([
    ["anthropic/claude-opus-4-6", "input", 200_000],
    ["anthropic/claude-opus-4-6", "output", 0],
    ["anthropic/claude-opus-4-6", 1],
    ["compatible/own", "input", 1],
    ["compatible/own", "output", 2],
  ]);
});

test("a sum is limited to the storable maximum", () => {
  const huge = { ...noUsage, input_tokens: USAGE_TOKENS_MAX, output_tokens: 1, estimated: false };
  expect(addUsage(huge, huge)).toEqual({ ...huge, output_tokens: 2 });
});
