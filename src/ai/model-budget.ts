/** How much of a conversation a model is shown, and how long its answer may be, in tokens. */
export type ModelBudget = {
  inputTokens: number;
  /** What is asked for as the most of an answer; null leaves it to the provider. */
  outputTokensMax: number | null;
};

/**
 * Most tokens of a conversation that any model is shown, unless the operator says otherwise: models take more, but each
 * message would pay for all of it again, and answers get no better by it.
 */
export const INPUT_TOKENS_DEFAULT = 64_000;
/** For models that are not in the table, local ones mostly: small enough for a window of 16,384 with its answer. */
export const INPUT_TOKENS_UNKNOWN = 12_000;

/** Window and longest answer by the beginning of the name; the first that fits counts. */
const windows: readonly (readonly [prefix: string, windowTokens: number, answerTokens: number])[] = [
  ["openai/gpt-5", 400_000, 128_000],
  ["openai/gpt-4.1", 1_047_576, 32_768],
  ["openai/gpt-4o", 128_000, 16_384],
  ["openai/o3", 200_000, 100_000],
  ["openai/o4-mini", 200_000, 100_000],
  ["anthropic/claude-", 200_000, 32_000],
];

export type BudgetOf = (model: string) => ModelBudget;

/**
 * The budgets of all models (`provider/name`). The answer's share is kept free of the window.
 * @param inputTokens what the operator allows, instead of the defaults; a known window still counts.
 */
export function createBudgetOf(inputTokens?: number): BudgetOf {
  return (model) => {
    const known = windows.find(([prefix]) => model.startsWith(prefix));
    if (!known) return { inputTokens: inputTokens ?? INPUT_TOKENS_UNKNOWN, outputTokensMax: null };
    const [, windowTokens, answerTokens] = known;
    return {
      inputTokens: Math.min(windowTokens - answerTokens, inputTokens ?? INPUT_TOKENS_DEFAULT),
      outputTokensMax: answerTokens,
    };
  };
}
