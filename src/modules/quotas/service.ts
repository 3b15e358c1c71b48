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
   * Runs `store` if `amount` more fits in the user's quota. Usually needs no query: stored data is counted at most once
   * a minute, and before anything is refused. Don't nest calls for the same quota.
   * @throws Problem `quota_exceeded`, and what `store` throws.
   */
  reserve<T>(name: queries.CountedQuota, userId: string, amount: number, store: () => Promise<T>): Promise<T>;

  /** Checks whether `amount` more fits in the user's quota now. @throws Problem `quota_exceeded`. */
  check(name: queries.CountedQuota, userId: string, amount: number): Promise<void>;

  /**
   * Checks an amount that the calling code has counted under a lock.
   * @throws Problem `quota_exceeded` if one more doesn't fit.
   */
  requireRoom(name: QuotaName, used: number): void;

  /** Call this after deleting a user's data: it is counted again before anything is refused. */
  invalidate(userId: string): void;

  /** Returns all quotas with the user's usage. */
  getUsage(userId: string): Promise<Quotas>;
}

type Dependencies = {
  database: Database;
  config: QuotaConfig;
  /** Called when a request is refused. */
  onRefused(name: QuotaName): void;
};

export function createQuotaService({ database, config, onRefused }: Dependencies): QuotaService {
  const limitOf = (name: QuotaName): number => config[`QUOTA_${name.toUpperCase() as Uppercase<QuotaName>}`];

  function createQuotaExceeded(name: QuotaName): Problem {
    onRefused(name);
    return new Problem("quota_exceeded", errorDetails[name](limitOf(name)), { violatedPolicies: [name] });
  }

  const createCounter = (name: queries.CountedQuota): QuotaCounter =>
    createQuotaCounter({
      limit: limitOf(name),
      count: (userId) => queries.countQueries[name](database, userId),
      createError: () => createQuotaExceeded(name),
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

    requireRoom(name, used) {
      const limit = limitOf(name);
      if (limit > 0 && used >= limit) throw createQuotaExceeded(name);
    },

    invalidate(userId) {
      for (const counter of Object.values(counters)) counter.invalidate(userId);
    },

    async getUsage(userId) {
      const [stored_bytes, conversations, joined_conversations, feedback, smallCounts] = await Promise.all([
        counters.stored_bytes.read(userId),
        counters.conversations.read(userId),
        counters.joined_conversations.read(userId),
        counters.feedback.read(userId),
        queries.countSmallQuotas(database, userId),
      ]);
      const used = { stored_bytes, conversations, joined_conversations, feedback, ...smallCounts };
      const usage = quotaNames.map((name) => [name, { used: used[name], limit: limitOf(name) || null }]);
      return Object.fromEntries(usage) as Quotas;
    },
  };
}

const errorDetails: Record<QuotaName, (limit: number) => string> = {
  stored_bytes: (limit) => `You can store at most ${limit} bytes of messages and prompts. Delete some first.`,
  conversations: (limit) => `You can have at most ${limit} conversations of your own. Delete one first.`,
  // Shown to the person who adds the user, so it doesn't reveal the user's number of conversations.
  joined_conversations: () => "This user can't be added to more conversations.",
  prompts: (limit) => `You can have at most ${limit} prompts. Delete one first.`,
  prompt_versions: (limit) => `A prompt can have at most ${limit} versions. Delete one, or create another prompt.`,
  sessions: (limit) => `You can have at most ${limit} sessions.`,
  feedback: (limit) => `You can rate at most ${limit} responses. Remove a rating first.`,
  api_keys: (limit) => `You can have at most ${limit} API keys. Delete one first.`,
  webhooks: (limit) => `You can have at most ${limit} webhooks. Delete one first.`,
};
