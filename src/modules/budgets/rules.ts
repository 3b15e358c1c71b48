import type { Config } from "../../config.ts";
import { findHighestPrices, findPrice, type Price, type PriceTable } from "../../lib/prices.ts";

type Period = "DAY" | "MONTH";
type Payer = "USER" | "KEY";
/** The settings that concern budgets. */
export type BudgetConfig = Pick<
  Config,
  "BUDGET_ANSWER_TOKENS" | `BUDGET_${Payer}_TOKENS_PER_${Period}` | `BUDGET_${Payer}_USD_PER_${Period}`
>;

/** As reserve_budget (sql/functions/budgets.sql) reads them; what is absent is not limited. */
export type BudgetLimits = { day_tokens?: number; month_tokens?: number; day_usd?: number; month_usd?: number };

/** The newest messages of a conversation that may be part of a prompt. */
const PROMPT_MESSAGES = 1_000;
/** What a prompt has beside the messages: instructions, a summary, the form of the request. */
const PROMPT_TOKENS_EXTRA = 500;

/** All that the database needs to know to reserve for an answer (sql/functions/budgets.sql, `reserve_answer`). */
export type BudgetRules = {
  /** Of each user. */
  limits: BudgetLimits;
  /** Of each API key; absent: keys are not limited by themselves. */
  key_limits?: BudgetLimits;
  answer_tokens: number;
  prompt_messages: number;
  prompt_tokens_extra: number;
  default_model: string;
  /** By model: the most that a million tokens in and out may cost (USD), and the tokens that a prompt has at most. */
  models: Record<string, [number, number, number]>;
};

/** The limits of each user, or of each API key; null when nothing is limited. */
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

/** For a model whose price is not known. */
export const noPrice: Price = { input: 0, output: 0 };

/** @returns null when neither users nor keys are limited. */
export function createRules(
  limits: { user: BudgetLimits | null; key: BudgetLimits | null },
  config: BudgetConfig,
  { models, defaultModel, prices, promptTokensMaxOf }: ModelRules,
): BudgetRules | null {
  if (!limits.user && !limits.key) return null;
  return {
    // A user is reserved for in any case, so that what a key uses is charged to both.
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
