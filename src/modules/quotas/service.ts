import type { Config } from "../../config.ts";
import type { Database } from "../../db/client.ts";
import { Problem } from "../../lib/problem.ts";
import { createQuotaCounter, type QuotaCounter } from "./counter.ts";
import { type QuotaName, type Quotas, quotaNames } from "./model.ts";
import * as queries from "./queries.ts";

type QuotaConfig = Pick<Config, Extract<keyof Config, `QUOTA_${string}`>>;

/** Limits on stored amounts per user (docs/limits.md). */
export interface QuotaService {
  /**
   * Runs `store` if the user has room for `amount` more. Usually needs no query; the database is queried once a minute, and
   * before anything is refused. Don't nest calls for the same name.
   * @throws Problem `quota_exceeded`, and what `store` throws.
   */
  take<T>(name: queries.CountedQuota, userId: string, amount: number, store: () => Promise<T>): Promise<T>;

  /** Checks whether the user has room for `amount` more now. @throws Problem `quota_exceeded`. */
  check(name: queries.CountedQuota, userId: string, amount: number): Promise<void>;

  /** For amounts counted under a lock where they are stored. @throws Problem `quota_exceeded` unless there is room for one more. */
  requireRoom(name: QuotaName, used: number): void;

  /** After a deletion of this user's data: they are counted again before anything is refused. */
  invalidate(userId: string): void;

  /** For the user: all quotas with their usage. */
  getUsage(userId: string): Promise<Quotas>;
}

type Dependencies = {
  database: Database;
  config: QuotaConfig;
  /** Called when something was refused. */
  onRefused(name: QuotaName): void;
};

export function createQuotaService({ database, config, onRefused }: Dependencies): QuotaService {
  const limitOf = (name: QuotaName): number => config[`QUOTA_${name.toUpperCase() as Uppercase<QuotaName>}`];

  function refuse(name: QuotaName): Problem {
    onRefused(name);
    return new Problem("quota_exceeded", details[name](limitOf(name)), { violatedPolicies: [name] });
  }

  const createCounter = (name: queries.CountedQuota): QuotaCounter =>
    createQuotaCounter({
      limit: limitOf(name),
      count: (userId) => queries.counts[name](database, userId),
      refuse: () => refuse(name),
    });
  const counters: Record<queries.CountedQuota, QuotaCounter> = {
    stored_bytes: createCounter("stored_bytes"),
    conversations: createCounter("conversations"),
    joined_conversations: createCounter("joined_conversations"),
    feedback: createCounter("feedback"),
  };

  return {
    take: (name, userId, amount, store) => counters[name].take(userId, amount, store),

    check: (name, userId, amount) => counters[name].check(userId, amount),

    requireRoom(name, used) {
      const limit = limitOf(name);
      if (limit > 0 && used >= limit) throw refuse(name);
    },

    invalidate(userId) {
      for (const counter of Object.values(counters)) counter.invalidate(userId);
    },

    async getUsage(userId) {
      const [stored_bytes, conversations, joined_conversations, feedback, small] = await Promise.all([
        counters.stored_bytes.read(userId),
        counters.conversations.read(userId),
        counters.joined_conversations.read(userId),
        counters.feedback.read(userId),
        queries.countSmall(database, userId),
      ]);
      const used = { stored_bytes, conversations, joined_conversations, feedback, ...small };
      const usage = quotaNames.map((name) => [name, { used: used[name], limit: limitOf(name) || null }]);
      return Object.fromEntries(usage) as Quotas;
    },
  };
}

const details: Record<QuotaName, (limit: number) => string> = {
  stored_bytes: (limit) => `You can store at most ${limit} bytes of messages and prompts. Delete some first.`,
  conversations: (limit) => `You can have at most ${limit} conversations of your own. Delete one first.`,
  // Shown to the person adding the user: without a number, which would reveal something about others.
  joined_conversations: () => "This user can't be added to more conversations.",
  prompts: (limit) => `You can have at most ${limit} prompts. Delete one first.`,
  prompt_versions: (limit) => `A prompt can have at most ${limit} versions. Delete one, or create another prompt.`,
  sessions: (limit) => `You can have at most ${limit} sessions.`,
  feedback: (limit) => `You can rate at most ${limit} responses. Remove a rating first.`,
  api_keys: (limit) => `You can have at most ${limit} API keys. Delete one first.`,
  webhooks: (limit) => `You can have at most ${limit} webhooks. Delete one first.`,
};
