import type { Config } from "../../config.ts";
import type { Database } from "../../db/client.ts";
import { Problem } from "../../lib/problem.ts";
import { createQuotaCounter, type QuotaCounter } from "./counter.ts";
import { type QuotaName, type Quotas, quotaNames } from "./model.ts";
import * as queries from "./queries.ts";

type QuotaConfig = Pick<Config, Extract<keyof Config, `QUOTA_${string}`>>;

/** Enforces limits on stored amounts per user (docs/limits.md). */
export interface QuotaService {
  /**
   * Runs `store` if the user's quota allows `amount` more. Usually needs no query, because data is counted at most once a minute,
   * and before a request is rejected. Don't nest calls for the same quota.
   * @throws Problem `quota_exceeded`, and the errors of `store`.
   */
  reserve<T>(name: queries.CountedQuota, userId: string, amount: number, store: () => Promise<T>): Promise<T>;

  /** Checks that the user's quota currently allows `amount` more. @throws Problem `quota_exceeded`. */
  check(name: queries.CountedQuota, userId: string, amount: number): Promise<void>;

  /** Checks an amount that was counted under a lock. @throws Problem `quota_exceeded` if it has reached the limit. */
  requireBelowLimit(name: QuotaName, used: number): void;

  /** Call this after a user's data was deleted. The data is then counted again before a request is rejected. */
  invalidate(userId: string): void;

  /** Returns all quotas with the user's usage. */
  getUsage(userId: string): Promise<Quotas>;
}

type Dependencies = {
  database: Database;
  config: QuotaConfig;
  /** Called when a request is rejected. */
  onRejected(name: QuotaName): void;
};

export function createQuotaService({ database, config, onRejected }: Dependencies): QuotaService {
  const getLimit = (name: QuotaName): number => config[`QUOTA_${name.toUpperCase() as Uppercase<QuotaName>}`];

  function createQuotaExceededError(name: QuotaName): Problem {
    onRejected(name);
    return new Problem("quota_exceeded", errorDetails[name](getLimit(name)), { violatedPolicies: [name] });
  }

  const createCounter = (name: queries.CountedQuota): QuotaCounter =>
    createQuotaCounter({
      limit: getLimit(name),
      count: (userId) => queries.countQueries[name](database, userId),
      createError: () => createQuotaExceededError(name),
    });
  const counters: Record<queries.CountedQuota, QuotaCounter> = {
    stored_bytes: createCounter("stored_bytes"),
    conversations: createCounter("conversations"),
    joined_conversations: createCounter("joined_conversations"),
    feedback: createCounter("feedback"),
  };

  return {
    reserve: (name, userId, amount, store) => counters[name].reserve(userId, amount, store),

    check: (name, userId, amount) => counters[name].check(userId, amount),

    requireBelowLimit(name, used) {
      const limit = getLimit(name);
      if (limit > 0 && used >= limit) throw createQuotaExceededError(name);
    },

    invalidate(userId) {
      for (const counter of Object.values(counters)) counter.invalidate(userId);
    },

    async getUsage(userId) {
      const [stored_bytes, conversations, joined_conversations, feedback, smallCounts] = await Promise.all([
        counters.stored_bytes.getUsed(userId),
        counters.conversations.getUsed(userId),
        counters.joined_conversations.getUsed(userId),
        counters.feedback.getUsed(userId),
        queries.countSmallQuotas(database, userId),
      ]);
      const used = { stored_bytes, conversations, joined_conversations, feedback, ...smallCounts };
      const usage = quotaNames.map((name) => [name, { used: used[name], limit: getLimit(name) || null }]);
      return Object.fromEntries(usage) as Quotas;
    },
  };
}

const errorDetails: Record<QuotaName, (limit: number) => string> = {
  stored_bytes: (limit) => `You can store at most ${limit} bytes of messages and prompts. Delete some first.`,
  conversations: (limit) => `You can have at most ${limit} conversations of your own. Delete one first.`,
  // Shown to the owner who adds the user, so it doesn't reveal the user's number of conversations.
  joined_conversations: () => "This user can't be added to more conversations.",
  prompts: (limit) => `You can have at most ${limit} prompts. Delete one first.`,
  prompt_versions: (limit) => `A prompt can have at most ${limit} versions. Delete one, or create another prompt.`,
  sessions: (limit) => `You can have at most ${limit} sessions.`,
  feedback: (limit) => `You can rate at most ${limit} responses. Remove a rating first.`,
  api_keys: (limit) => `You can have at most ${limit} API keys. Delete one first.`,
  webhooks: (limit) => `You can have at most ${limit} webhooks. Delete one first.`,
};
