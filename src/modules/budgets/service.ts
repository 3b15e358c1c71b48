import { type Caller, keyIdOf } from "../../access/caller.ts";
import { type Database, type Sql, withTransaction } from "../../db/client.ts";
import { retryTemporary } from "../../db/retry.ts";
import { fitCount, fitUsd } from "../../db/storable.ts";
import { createId } from "../../lib/id.ts";
import type { Log } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import { findHighestPrices, findPrice } from "../../lib/prices.ts";
import { Problem } from "../../lib/problem.ts";
import { createCharges } from "./charges.ts";
import { createExceededEvents } from "./exceeded.ts";
import type { BudgetUsage } from "./model.ts";
import * as queries from "./queries.ts";
import {
  type BudgetConfig,
  type BudgetRules,
  createBudgetLimits,
  createRules,
  type ModelRules,
  noPrice,
} from "./rules.ts";
import { endOf, mapToWindows } from "./windows.ts";

export type { Period } from "./queries.ts";

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
type ChargeOptions = {
  /** It is charged once under this id. */
  id: string;
  /** What is settled with it; absent: a reservation of the same id, if there is one. */
  reservationId?: string;
  /** Looked at in the transaction that charges. */
  isDue?(sql: Sql): Promise<boolean>;
};

type Reservation = {
  /** To be settled under this id, by whoever reserved. */
  id: string;
  /** The most tokens that the answer may have; null: not limited. */
  outputTokensMax: number | null;
};

/**
 * Budgets of users and of API keys: reserve before a model is asked, settle with what it really used. A reservation is never
 * larger than what is left, so that answers at the same time cannot overspend together.
 */
export interface BudgetService {
  /** What send_messages (sql/functions) needs to reserve within a send; null while nothing is limited. */
  readonly rules: BudgetRules | null;

  /** The most tokens of one answer; null while nothing is limited. */
  readonly answerTokensMax: number | null;

  /** The problem that a send ends with which the database refused to reserve for; it is counted, and webhooks are told. */
  refuse(payer: queries.Payer, period: queries.Period): Problem;

  /**
   * Reserves for an answer of a stored generation, within the transaction that stores it.
   * @throws Problem `budget_exceeded`.
   */
  reserveAnswer(sql: Sql, answer: queries.AnswerToReserve): Promise<void>;

  /**
   * Reserves for a completion that stores no generation; it has to end in `settle`. The longest answer
   * counts, so pass `outputTokensMax` of the result on to the model.
   * @throws Problem `budget_exceeded`.
   */
  reserve(request: ReservationRequest): Promise<Reservation>;

  /**
   * Ends the reservation of a generation or a completion with what it used; without a reservation, the user is
   * charged all the same. It may be called again: what was used is charged once under an id.
   */
  settle(options: ChargeOptions, userId: string | null, used: TokensAndCost): Promise<void>;

  /**
   * Charges a user for what was used beside a reservation: by a run that another instance has taken over, for example. It
   * is tried for some seconds if their windows are locked.
   */
  charge(userId: string | null, used: TokensAndCost, options?: ChargeOptions): Promise<void>;

  /** Keeps the reservations that this instance holds; call it several times within a lease. */
  renew(): Promise<void>;

  /** Frees reservations whose instance died, a few payers in each transaction. */
  free(signal: AbortSignal): Promise<void>;

  /** Forgets what was spent long ago, a part of it. @returns how much it was; 0: there is no more. */
  forget(): Promise<number>;

  /** For every caller: what they have spent and their limits; with an API key, also those of the key. */
  getUsage(caller: Caller): Promise<BudgetUsage>;
}

type ReservationRequest = {
  payer: queries.Payer;
  model: string;
  /** Tokens of all that the model is shown, estimated rather too high; asked for only where something is limited. */
  countPromptTokens(): number;
  outputTokensMax: number | null;
};

type Dependencies = ModelRules & {
  database: Database;
  config: BudgetConfig;
  metrics: Metrics;
  log: Log;
  /** This process, as the owner of leases. */
  instanceId: string;
};

export function createBudgetService(deps: Dependencies): BudgetService {
  const { database, config, metrics, log, instanceId, ...modelRules } = deps;
  const { prices } = modelRules;
  const limits = { user: createBudgetLimits(config, "USER"), key: createBudgetLimits(config, "KEY") };
  const tellExceeded = createExceededEvents({ database, log, limits });
  const rules = createRules(limits, config, modelRules);
  const charges = createCharges({ database });
  /** Reservations that this instance holds without a stored generation. */
  const held = new Map<string, queries.Held>();

  function refuse(payer: queries.Payer, period: queries.Period): Problem {
    tellExceeded(payer, period);
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
    const amount = {
      tokens: fitCount(usage?.input_tokens ?? 0) + fitCount(usage?.output_tokens ?? 0),
      usd: fitUsd(costUsd) ?? 0,
    };
    // First: one that cannot be settled now is not to be renewed for ever.
    held.delete(reservationId);
    const charge = { chargeId: id, reservationId, userId, ...amount };
    if (!isDue) return charges.settle(charge);
    const work = async (sql: Sql) => {
      if (await isDue(sql)) await queries.settle(sql, charge);
    };
    await withTransaction(database, work, keyOf(userId));
  }

  return {
    rules,
    refuse,

    answerTokensMax: rules?.answer_tokens ?? null,

    async reserveAnswer(sql, answer) {
      const exceeded = rules && (await queries.reserveAnswer(sql, answer, rules));
      if (exceeded) throw refuse(answer, exceeded);
    },

    async reserve(request) {
      const id = createId();
      if (!rules || request.model.startsWith("offline/")) return { id, outputTokensMax: request.outputTokensMax };
      const outputTokensMax = Math.min(request.outputTokensMax ?? Number.POSITIVE_INFINITY, rules.answer_tokens);
      const inputTokens = rules.prompt_tokens_extra + request.countPromptTokens();
      const { input, output } = findHighestPrices(findPrice(request.model, prices) ?? noPrice, inputTokens);
      const amount = {
        tokens: inputTokens + outputTokensMax,
        usd: (inputTokens * input + outputTokensMax * output) / 1_000_000,
      };
      const lease = { owner: instanceId, leaseMs: HELD_MS };
      const reserve = (sql: Sql) => queries.reserve(sql, id, request.payer, amount, rules, lease);
      const reserved = await withTransaction(database, reserve, keyOf(request.payer.userId));
      if ("exceeded" in reserved) throw refuse(request.payer, reserved.exceeded);
      held.set(id, reserved.held);
      return { id, outputTokensMax };
    },

    settle,

    async charge(userId, used, options = { id: createId() }) {
      const charge = () => settle(options, userId, used);
      if (used.usage) await retryTemporary(charge, AbortSignal.timeout(CHARGE_MS_MAX));
    },

    async renew() {
      if (held.size > 0) await queries.renew(database, instanceId, [...held.values()], HELD_MS);
    },

    async free(signal) {
      for (let afterId: string | null = FIRST_ID; afterId !== null && !signal.aborted; ) {
        const from: string = afterId;
        ({ last_id: afterId } = await withTransaction(database, (sql) => queries.freeReservations(sql, from)));
      }
    },

    async forget() {
      const windows = await queries.deleteOldWindows(database, WINDOWS_KEPT_DAYS);
      return windows + (await queries.deleteOldCharges(database));
    },

    async getUsage(caller) {
      const keyId = keyIdOf(caller);
      const [user, key] = await Promise.all([
        queries.listWindows(database, { scope: "user", id: caller.user.id }),
        keyId !== null && limits.key ? queries.listWindows(database, { scope: "key", id: keyId }) : null,
      ]);
      return { ...mapToWindows(user, limits.user), api_key: key && mapToWindows(key, limits.key) };
    },
  };
}
