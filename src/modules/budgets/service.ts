import { type Caller, keyIdOf } from "../../access/caller.ts";
import { type Database, type Sql, withTransaction } from "../../db/client.ts";
import { retryTemporary } from "../../db/retry.ts";
import { createId } from "../../lib/id.ts";
import type { Metrics } from "../../lib/metrics.ts";
import { findPrice } from "../../lib/prices.ts";
import { Problem } from "../../lib/problem.ts";
import type { BudgetUsage, BudgetWindow, BudgetWindows } from "./model.ts";
import * as queries from "./queries.ts";
import { type BudgetConfig, createLimits, createRules, type Limits, type ModelRules } from "./rules.ts";

export type { AnswerToReserve, Payer, Period } from "./queries.ts";
export type { BudgetRules } from "./rules.ts";

/** A reservation without a stored generation that is not renewed for so long belongs to nobody: its instance died. */
const HELD_MS = 60_000;

const FIRST_ID = "00000000-0000-0000-0000-000000000000";
/** What was spent in a day or a month is kept for so long. */
export const WINDOWS_KEPT_DAYS = 400;

/** How long a charge is tried. */
const CHARGE_MS_MAX = 5_000;

export type TokensAndCost = { usage: { input_tokens: number; output_tokens: number } | null; costUsd: number | null };

/** How something is charged for that may be tried again, by several callers as well. */
export type ChargeOptions = {
  /** It is charged once under this id. */
  id: string;
  /** What is settled with it; absent: a reservation of the same id, if there is one. */
  reservationId?: string;
  /** Looked at in the transaction that charges. */
  isDue?(sql: Sql): Promise<boolean>;
};

export type Reservation = {
  /** To be settled or released under this id, by whoever reserved. */
  id: string;
  /** The most tokens that the answer may have; null: not limited. */
  outputTokensMax: number | null;
};

type Dependencies = ModelRules & {
  database: Database;
  config: BudgetConfig;
  metrics: Metrics;
  /** This process, as the owner of leases. */
  instanceId: string;
};

/**
 * Budgets of users and of API keys: reserve before a model is asked, settle with what it really used. A reservation is never larger than
 * what is left, so that answers at the same time cannot overspend together.
 */
export function createBudgetService({ database, config, metrics, instanceId, ...modelRules }: Dependencies) {
  const { prices } = modelRules;
  const limits = { user: createLimits(config, "USER"), key: createLimits(config, "KEY") };
  const rules = createRules(limits, config, modelRules);
  /** Reservations that this instance holds without a stored generation. */
  const held = new Map<string, queries.Held>();

  /** The problem that a refusal ends with; it is counted. */
  function refuse(period: queries.Period): Problem {
    metrics.budgetRejections.inc({ period });
    const endsAt = endOf(period, new Date());
    return new Problem(
      "budget_exceeded",
      `The budget of this ${period} does not suffice for another answer; the next one begins at ${endsAt.toISOString()}.`,
      { retryAfterMs: endsAt.getTime() - Date.now() },
    );
  }

  /** Somebody's windows may be locked: their requests wait for each other, without a connection. */
  const keyOf = (userId: string | null) => (userId === null ? undefined : `payer:${userId}`);

  async function settle(
    { id, reservationId = id, isDue }: ChargeOptions,
    userId: string | null,
    { usage, costUsd }: TokensAndCost,
  ): Promise<void> {
    const amount = { tokens: (usage?.input_tokens ?? 0) + (usage?.output_tokens ?? 0), usd: costUsd ?? 0 };
    // First: one that cannot be settled now is not to be renewed for ever.
    held.delete(reservationId);
    const work = async (sql: Sql) => {
      if (isDue && !(await isDue(sql))) return;
      await queries.settle(sql, { chargeId: id, reservationId, userId }, amount);
    };
    await withTransaction(database, work, keyOf(userId));
  }

  return {
    /** What send_messages (sql/functions) needs to reserve within a send; null while nothing is limited. */
    rules,
    refuse,

    /** The most tokens of one answer; null while nothing is limited. */
    answerTokensMax: rules?.answer_tokens ?? null,

    /**
     * Reserves for an answer of a stored generation, within the transaction that stores it.
     * @throws Problem `budget_exceeded`.
     */
    async reserveAnswer(sql: Sql, answer: queries.AnswerToReserve): Promise<void> {
      const exceeded = rules && (await queries.reserveAnswer(sql, answer, rules));
      if (exceeded) throw refuse(exceeded);
    },

    /**
     * Reserves for a completion that stores no generation; it has to end in `settle` or `release`. The longest answer
     * counts, so pass `outputTokensMax` of the result on to the model.
     * @param promptTokens of all that the model is shown, estimated rather too high.
     * @throws Problem `budget_exceeded`.
     */
    async reserve(request: {
      payer: queries.Payer;
      model: string;
      promptTokens: number;
      outputTokensMax: number | null;
    }): Promise<Reservation> {
      const id = createId();
      if (!rules || request.model.startsWith("offline/")) return { id, outputTokensMax: request.outputTokensMax };
      const outputTokensMax = Math.min(request.outputTokensMax ?? Number.POSITIVE_INFINITY, rules.answer_tokens);
      const inputTokens = rules.prompt_tokens_extra + request.promptTokens;
      const { input = 0, output = 0 } = findPrice(request.model, prices) ?? {};
      const amount = {
        tokens: inputTokens + outputTokensMax,
        usd: (inputTokens * input + outputTokensMax * output) / 1_000_000,
      };
      const lease = { owner: instanceId, leaseMs: HELD_MS };
      const reserve = (sql: Sql) => queries.reserve(sql, id, request.payer, amount, rules, lease);
      const reserved = await withTransaction(database, reserve, keyOf(request.payer.userId));
      if ("exceeded" in reserved) throw refuse(reserved.exceeded);
      held.set(id, reserved.held);
      return { id, outputTokensMax };
    },

    /**
     * Ends the reservation of a generation or a completion with what it used; without a reservation, the user is
     * charged all the same. It may be called again: under one id, what was used is charged once.
     */
    settle,

    /**
     * Charges a user for what was used beside a reservation: by a run that another instance has taken over, say. It is
     * tried for some seconds if their windows are locked.
     */
    async charge(
      userId: string | null,
      used: TokensAndCost,
      options: ChargeOptions = { id: createId() },
    ): Promise<void> {
      const charge = () => settle(options, userId, used);
      if (used.usage) await retryTemporary(charge, AbortSignal.timeout(CHARGE_MS_MAX));
    },

    /** Ends a reservation of which nothing was used. */
    release: (id: string): Promise<void> => settle({ id }, null, { usage: null, costUsd: null }),

    /** Keeps what this instance holds; call it several times within a lease. */
    async renew(): Promise<void> {
      if (held.size > 0) await queries.renew(database, instanceId, [...held.values()], HELD_MS);
    },

    /** Frees what nobody holds any more, a few payers in each transaction. */
    async free(signal: AbortSignal): Promise<void> {
      for (let afterId: string | null = FIRST_ID; afterId !== null && !signal.aborted; ) {
        const from: string = afterId;
        ({ last_id: afterId } = await withTransaction(database, (sql) => queries.freeReservations(sql, from)));
      }
    },

    /** Forgets what was spent long ago, a part of it. @returns how much it was; 0: there is no more. */
    async forget(): Promise<number> {
      const windows = await queries.deleteOldWindows(database, WINDOWS_KEPT_DAYS);
      return windows + (await queries.deleteOldCharges(database));
    },

    /** For every caller: what they have spent, and what they may; with an API key, also what that has and may. */
    async getUsage(caller: Caller): Promise<BudgetUsage> {
      const keyId = keyIdOf(caller);
      const [user, key] = await Promise.all([
        queries.listWindows(database, { scope: "user", id: caller.user.id }),
        keyId !== null && limits.key ? queries.listWindows(database, { scope: "key", id: keyId }) : null,
      ]);
      return { ...mapToWindows(user, limits.user), api_key: key && mapToWindows(key, limits.key) };
    },
  };
}

export type BudgetService = ReturnType<typeof createBudgetService>;

function mapToWindows(rows: queries.WindowRow[], limits: Limits | null): BudgetWindows {
  const find = (period: queries.Period): BudgetWindow => {
    const row = rows.find((candidate) => candidate.period === period);
    if (!row) throw new Error("A query over constants returns its rows.");
    return {
      starts_at: row.starts_at.toISOString(),
      ends_at: row.ends_at.toISOString(),
      spent_tokens: row.spent_tokens,
      reserved_tokens: row.reserved_tokens,
      limit_tokens: limits?.[`${period}_tokens`] ?? null,
      spent_usd: Number(row.spent_usd),
      reserved_usd: Number(row.reserved_usd),
      limit_usd: limits?.[`${period}_usd`] ?? null,
    };
  };
  return { day: find("day"), month: find("month") };
}

/** The first moment of the next day or month, UTC. */
function endOf(period: queries.Period, now: Date): Date {
  const [year, month, day] = [now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate()];
  return new Date(period === "day" ? Date.UTC(year, month, day + 1) : Date.UTC(year, month + 1, 1));
}
