import type { Config } from "../../config.ts";
import { findHighestPrices, findPrice, type Price, type PriceTable } from "../../lib/prices.ts";

type Period = "DAY" | "MONTH";
type Payer = "USER" | "KEY";
/** The settings for budgets. */
export type BudgetConfig = Pick<
  Config,
  "BUDGET_ANSWER_TOKENS" | `BUDGET_${Payer}_TOKENS_PER_${Period}` | `BUDGET_${Payer}_USD_PER_${Period}`
>;

/** The input of reserve_budget (sql/functions/budgets.sql); absent limits don't apply. */
export type BudgetLimits = { day_tokens?: number; month_tokens?: number; day_usd?: number; month_usd?: number };

/** How many of a conversation's newest messages may be part of a prompt. */
const PROMPT_MESSAGES = 1_000;
/** Prompt tokens besides the messages: instructions, a summary, the request format. */
const PROMPT_TOKENS_EXTRA = 500;

/** Everything that the database needs to reserve budget for a response (sql/functions/budgets.sql, `reserve_answer`). */
export type BudgetRules = {
  /** Per user. */
  limits: BudgetLimits;
  /** Per API key; absent: keys have no separate limits. */
  key_limits?: BudgetLimits;
  answer_tokens: number;
  prompt_messages: number;
  prompt_tokens_extra: number;
  default_model: string;
  /** By model: the highest prices of a million input tokens and output tokens (USD), and the maximum tokens of a prompt. */
  models: Record<string, [number, number, number]>;
};

/** The limits per user or per API key; null if there are none. */
export function createBudgetLimits(config: BudgetConfig, payer: Payer): BudgetLimits | null {
  const all = {
    day_tokens: config[`BUDGET_${payer}_TOKENS_PER_DAY`],
    month_tokens: config[`BUDGET_${payer}_TOKENS_PER_MONTH`],
    day_usd: config[`BUDGET_${payer}_USD_PER_DAY`],
    month_usd: config[`BUDGET_${payer}_USD_PER_MONTH`],
  };
  const set = Object.entries(all).filter(([, limit]) => limit !== undefined);
  return set.length > 0 ? Object.fromEntries(set) : null;
}

export type ModelRules = {
  models: readonly string[];
  defaultModel: string;
  prices: PriceTable;
  promptTokensMaxOf(model: string): number;
};

/** The price of models whose price is unknown. */
export const noPrice: Price = { input: 0, output: 0 };

/** Creates the rules; null if neither users nor keys have limits. */
export function createRules(
  limits: { user: BudgetLimits | null; key: BudgetLimits | null },
  config: BudgetConfig,
  { models, defaultModel, prices, promptTokensMaxOf }: ModelRules,
): BudgetRules | null {
  if (!limits.user && !limits.key) return null;
  return {
    // Always reserve for the user, so that a key's usage is charged to both.
    limits: limits.user ?? {},
    ...(limits.key && { key_limits: limits.key }),
    answer_tokens: config.BUDGET_ANSWER_TOKENS,
    prompt_messages: PROMPT_MESSAGES,
    prompt_tokens_extra: PROMPT_TOKENS_EXTRA,
    default_model: defaultModel,
    models: Object.fromEntries(
      models.map((model) => {
        const promptTokensMax = promptTokensMaxOf(model);
        const price = findPrice(model, prices) ?? noPrice;
        const { input, output } = findHighestPrices(price, promptTokensMax + PROMPT_TOKENS_EXTRA);
        return [model, [input, output, promptTokensMax]];
      }),
    ),
  };
}
