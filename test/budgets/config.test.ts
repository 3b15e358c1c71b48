import { expect, test } from "bun:test";
import { hasPrice } from "../../src/commands/load-config.ts";
import { ConfigError, loadConfig } from "../../src/config.ts";
import { parsePrices } from "../../src/lib/parse-prices.ts";

const loadTestConfig = (environment: Record<string, string>) => loadConfig(environment, () => "", undefined, hasPrice);

function findProblems(environment: Record<string, string>): string[] {
  try {
    loadTestConfig(environment);
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
}

test.each([
  ["compatible/own=1/2.5,openai/gpt-5.2=0/0", { "compatible/own": { input: 1, output: 2.5 } }],
  ['{"compatible/own": {"input": 1, "output": 2.5}}', { "compatible/own": { input: 1, output: 2.5 } }],
  ["compatible/own=1/2.5/0.1", { "compatible/own": { input: 1, output: 2.5, cached_input: 0.1 } }],
  ["compatible/own=1/2/0/1.25", { "compatible/own": { input: 1, output: 2, cached_input: 0, cache_write: 1.25 } }],
  [
    '{"compatible/own": {"input": 1, "output": 2, "cached_input": 0.5, "cache_write": 3}}',
    { "compatible/own": { input: 1, output: 2, cached_input: 0.5, cache_write: 3 } },
  ],
  [
    '{"compatible/own": {"input": 1, "output": 2, "cache_write": 3}}',
    { "compatible/own": { input: 1, cache_write: 3 } },
  ],
  ["compatible/own=1/2/3/4/5", null],
  ["compatible/own=1/2/", null],
  ["compatible/own=1/2/-1", null],
  ["compatible/own=1/2/1e9", null],
  ['{"compatible/own": {"input": 1, "output": 2, "cached_input": "0.1"}}', null],
  ['{"compatible/own": {"input": 1, "output": 2, "cached": 0.1}}', null],
  ['{"compatible/own": [1, 2]}', null],
  [" compatible/own = 1/2", null],
  ["own=1/2", null],
  ["compatible/own=1", null],
  ["compatible/own=-1/2", null],
  ["compatible/own=1e9/2", null],
  ['{"compatible/own": {"input": "1", "output": 2}}', null],
  ['{"compatible/own": null}', null],
  ["{", null],
])("the prices %s are parsed or rejected", (text, expected) => {
  const prices = parsePrices(text);
  if (expected === null) expect(prices).toBeNull();
  else expect(prices).toMatchObject(expected);
  expect(findProblems({ AI_PRICES: text }).some((problem) => problem.startsWith("AI_PRICES: "))).toBe(
    expected === null,
  );
});

test.each([
  ["openai/a=1/2,compatible/own=1,openai/b=1/2", '"compatible/own=1" '],
  ['{"openai/a": {"input": 1, "output": 2, "cached": 3}}', '"{\\"openai/a\\":'],
])("the error for the prices %s mentions the invalid entry and the correct format", (text, invalid) => {
  const [problem] = findProblems({ AI_PRICES: text });
  expect(problem).toStartWith(`AI_PRICES: ${invalid}`);
  expect(problem).toContain("model=input/output[/cached_input[/cache_write]]");
});

test.each([
  ["BUDGET_USER_TOKENS_PER_DAY", "0"],
  ["BUDGET_USER_TOKENS_PER_MONTH", "1.5"],
  ["BUDGET_USER_USD_PER_DAY", "-1"],
  ["BUDGET_USER_USD_PER_MONTH", "much"],
])("%s=%s is rejected", (name, value) => {
  expect(findProblems({ [name]: value }).filter((problem) => problem.startsWith(name))).toHaveLength(1);
});

test("a budget is rejected if it is too small for any answer, or if a model's price is unknown", () => {
  const problems = findProblems({
    COMPATIBLE_BASE_URL: "http://localhost:1",
    AI_MODELS: "compatible/own,offline/documents",
    BUDGET_USER_TOKENS_PER_DAY: "4096",
    BUDGET_USER_USD_PER_DAY: "0.5",
  });
  expect(problems).toHaveLength(2);
  expect(problems[0]).toStartWith("BUDGET_USER_TOKENS_PER_DAY: ");
  expect(problems[1]).toStartWith("AI_PRICES: the price of compatible/own ");
  const pricedConfig = { OPENAI_API_KEY: "k", AI_MODELS: "openai/gpt-5.2,openai/own", AI_PRICES: "openai/own=1/2" };
  expect(findProblems({ ...pricedConfig, BUDGET_USER_USD_PER_DAY: "0.5" })).toEqual([]);
  expect(loadTestConfig({ BUDGET_USER_USD_PER_DAY: "0.5" }).BUDGET_USER_USD_PER_DAY).toBe(0.5);
});
