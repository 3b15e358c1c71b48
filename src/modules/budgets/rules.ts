import type { Config } from "../../config.ts";
import { findHighestPrices, findPrice, type Price, type PriceTable } from "../../lib/prices.ts";

type Period = "DAY" | "MONTH";
type Payer = "USER" | "KEY";
/** The settings for budgets. */
export type BudgetConfig = Pick<
  Config,
  "BUDGET_ANSWER_TOKENS" | `BUDGET_${Payer}_TOKENS_PER_${Period}` | `BUDGET_${Payer}_USD_PER_${Period}`
>;

/** The input of reserve_budget (sql/functions/budgets.sql). Absent limits don't apply. */
export type BudgetLimits = { day_tokens?: number; month_tokens?: number; day_usd?: number; month_usd?: number };

/** The maximum number of a conversation's newest messages in a prompt. */
const PROMPT_MESSAGES_MAX = 1_000;
/** The number of prompt tokens for instructions, a summary and the request format. */
const PROMPT_TOKENS_EXTRA = 500;

/** The rules by which the database reserves budget for an answer (`reserve_answer` in sql/functions/budgets.sql). */
export type BudgetRules = {
  /** The limits per user. */
  limits: BudgetLimits;
  /** The limits per API key. If absent, keys have no limits. */
  key_limits?: BudgetLimits;
  answer_tokens: number;
  prompt_messages: number;
  prompt_tokens_extra: number;
  default_model: string;
  /** For each model: the highest prices of a million input and output tokens (USD), and the maximum number of prompt tokens. */
  models: Record<string, [number, number, number]>;
};

/** Creates the limits per user or per API key. Returns null if there are none. */
export function createBudgetLimits(config: BudgetConfig, payer: Payer): BudgetLimits | null {
  const configuredLimits = {
    day_tokens: config[`BUDGET_${payer}_TOKENS_PER_DAY`],
    month_tokens: config[`BUDGET_${payer}_TOKENS_PER_MONTH`],
    day_usd: config[`BUDGET_${payer}_USD_PER_DAY`],
    month_usd: config[`BUDGET_${payer}_USD_PER_MONTH`],
  };
  const definedLimits = Object.entries(configuredLimits).filter(([, limit]) => limit !== undefined);
  return definedLimits.length > 0 ? Object.fromEntries(definedLimits) : null;
}

export type ModelRules = {
  models: readonly string[];
  defaultModel: string;
  prices: PriceTable;
  getPromptTokensMax(model: string): number;
};

/** The price of a model with an unknown price. */
export const zeroPrice: Price = { input: 0, output: 0 };

/** Creates the rules. Returns null if neither users nor keys have limits. */
export function createRules(
  limits: { user: BudgetLimits | null; key: BudgetLimits | null },
  config: BudgetConfig,
  { models, defaultModel, prices, getPromptTokensMax }: ModelRules,
): BudgetRules | null {
  if (!limits.user && !limits.key) return null;
  return {
    // The user is always included, so that a key's usage is charged to both.
    limits: limits.user ?? {},
    ...(limits.key && { key_limits: limits.key }),
    answer_tokens: config.BUDGET_ANSWER_TOKENS,
    prompt_messages: PROMPT_MESSAGES_MAX,
    prompt_tokens_extra: PROMPT_TOKENS_EXTRA,
    default_model: defaultModel,
    models: Object.fromEntries(
      models.map((model) => {
        const promptTokensMax = getPromptTokensMax(model);
        const price = findPrice(model, prices) ?? zeroPrice;
        const { input, output } = findHighestPrices(price, promptTokensMax + PROMPT_TOKENS_EXTRA);
        return [model, [input, output, promptTokensMax]];
      }),
    ),
  };
}
