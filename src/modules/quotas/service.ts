import type { Config } from "../../config.ts";
import type { Database } from "../../db/client.ts";
import { Problem } from "../../lib/problem.ts";
import { createQuotaCounter, type QuotaCounter } from "./counter.ts";
import { type QuotaName, type Quotas, quotaNames } from "./model.ts";
import * as queries from "./queries.ts";

type QuotaConfig = Pick<Config, Extract<keyof Config, `QUOTA_${string}`>>;

/** How much one user may have stored (docs/limits.md). */
export interface QuotaService {
  /**
   * Runs `store`, if the user may have `amount` more. It costs a look into memory; the database is asked once a minute, and
   * before anything is refused. Of one name, calls must not be nested.
   * @throws Problem `quota_exceeded`, and what `store` throws.
   */
  take<T>(name: queries.CountedQuota, userId: string, amount: number, store: () => Promise<T>): Promise<T>;

  /** Whether the user may have `amount` more now. @throws Problem `quota_exceeded`. */
  check(name: queries.CountedQuota, userId: string, amount: number): Promise<void>;

  /** For what is counted where it is stored, under a lock. @throws Problem `quota_exceeded` unless there is room for one more. */
  requireRoom(name: QuotaName, used: number): void;

  /** After something of this user was deleted: they are counted again before anything is refused. */
  invalidate(userId: string): void;

  /** For the user: all quotas, and how much of each is used. */
  getUsage(userId: string): Promise<Quotas>;
}

type Dependencies = {
  database: Database;
  config: QuotaConfig;
  /** Something was refused. */
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
  stored_bytes: (limit) => `You may store ${limit} bytes of messages and prompts. Delete some of them first.`,
  conversations: (limit) => `You may have ${limit} conversations of your own. Delete one first.`,
  // For whoever adds the user: no figure, since it would tell of others.
  joined_conversations: () => "This user cannot be added to more conversations.",
  prompts: (limit) => `You may have ${limit} prompts. Delete one first.`,
  prompt_versions: (limit) => `A prompt may have ${limit} versions. Delete one, or create another prompt.`,
  sessions: (limit) => `You may have ${limit} sessions.`,
  feedback: (limit) => `You may rate ${limit} answers. Take back a rating first.`,
  api_keys: (limit) => `You may have ${limit} API keys. Delete one first.`,
  webhooks: (limit) => `You may have ${limit} webhooks. Delete one first.`,
};
