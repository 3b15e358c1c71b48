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

/** Lease of a reservation without a stored generation. If it isn't renewed for this long, its instance has died. */
const LEASE_MS = 60_000;

const FIRST_ID = "00000000-0000-0000-0000-000000000000";
/** How long the usage of a day or a month is kept. */
export const WINDOW_RETENTION_DAYS = 400;

/** How long a charge is retried. */
const CHARGE_MS_MAX = 5_000;

export type TokensAndCost = { usage: { input_tokens: number; output_tokens: number } | null; costUsd: number | null };

/** Options of a charge that may be retried, even by several callers. */
type ChargeOptions = {
  /** The charge is applied once per id. */
  id: string;
  /** The reservation to settle; if absent, the one with the same id, if any. */
  reservationId?: string;
  /** Whether to charge at all; evaluated in the transaction that charges. */
  isDue?(sql: Sql): Promise<boolean>;
};

type Reservation = {
  /** The id to settle. */
  id: string;
  /** The maximum tokens of the response; null: no limit. */
  outputTokensMax: number | null;
};

/**
 * Budgets of users and API keys: reserve before calling a model, then settle with the actual usage. A reservation never
 * exceeds the remaining budget, so concurrent responses can't overspend together.
 */
export interface BudgetService {
  /** What send_messages (sql/functions) needs to reserve budget with a message; null if there are no limits. */
  readonly rules: BudgetRules | null;

  /** The maximum tokens of one response; null if there are no limits. */
  readonly answerTokensMax: number | null;

  /** Creates the error for a message whose reservation the database refused; counts the refusal and notifies webhooks. */
  refuse(payer: queries.Payer, period: queries.Period): Problem;

  /**
   * Reserves budget for the response of a stored generation, within the transaction that stores it.
   * @throws Problem `budget_exceeded`.
   */
  reserveAnswer(sql: Sql, answer: queries.AnswerToReserve): Promise<void>;

  /**
   * Reserves budget for a completion without a stored generation; always call `settle` afterwards. The reservation covers
   * the longest response, so pass `outputTokensMax` of the result to the model.
   * @throws Problem `budget_exceeded`.
   */
  reserve(request: ReservationRequest): Promise<Reservation>;

  /**
   * Replaces the reservation of a generation or completion with its actual usage. Without a reservation, the user is
   * charged anyway. Safe to repeat: each id is charged once.
   */
  settle(options: ChargeOptions, userId: string | null, used: TokensAndCost): Promise<void>;

  /**
   * Charges a user for usage outside a reservation, for example by an attempt that another instance has taken over.
   * Retries for a few seconds if the user's windows are locked.
   */
  charge(userId: string | null, used: TokensAndCost, options?: ChargeOptions): Promise<void>;

  /** Renews the reservations that this instance has leased; call it several times per lease. */
  renew(): Promise<void>;

  /** Frees reservations of dead instances, a few payers per transaction. */
  free(signal: AbortSignal): Promise<void>;

  /** Deletes a batch of old usage. @returns how many rows were deleted; 0 if none are left. */
  deleteOld(): Promise<number>;

  /** Returns the caller's usage and limits, and with an API key, also the key's. */
  getUsage(caller: Caller): Promise<BudgetUsage>;
}

type ReservationRequest = {
  payer: queries.Payer;
  model: string;
  /** An upper estimate of the prompt's tokens; called only if there are limits. */
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
  const notifyExceeded = createExceededEvents({ database, log, limits });
  const rules = createRules(limits, config, modelRules);
  const charges = createCharges({ database });
  /** Reservations without a stored generation, leased by this instance. */
  const leased = new Map<string, queries.LeasedReservation>();

  function refuse(payer: queries.Payer, period: queries.Period): Problem {
    notifyExceeded(payer, period);
    metrics.budgetRejections.inc({ period });
    const endsAt = endOf(period, new Date());
    return new Problem(
      "budget_exceeded",
      `This ${period}'s budget is too small for another response. The next ${period} begins at ${endsAt.toISOString()}.`,
      { retryAfterMs: endsAt.getTime() - Date.now() },
    );
  }

  /** A payer's requests share a queue, because they would hold connections while the payer's windows are locked. */
  const queueKeyOf = (userId: string | null) => (userId === null ? undefined : `payer:${userId}`);

  async function settle(
    { id, reservationId = id, isDue }: ChargeOptions,
    userId: string | null,
    { usage, costUsd }: TokensAndCost,
  ): Promise<void> {
    const amount = {
      tokens: fitCount(usage?.input_tokens ?? 0) + fitCount(usage?.output_tokens ?? 0),
      usd: fitUsd(costUsd) ?? 0,
    };
    // First, so that a reservation that can't be settled now is not renewed forever.
    leased.delete(reservationId);
    const charge = { chargeId: id, reservationId, userId, ...amount };
    if (!isDue) return charges.settle(charge);
    const work = async (sql: Sql) => {
      if (await isDue(sql)) await queries.settle(sql, charge);
    };
    await withTransaction(database, work, queueKeyOf(userId));
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
      const lease = { owner: instanceId, leaseMs: LEASE_MS };
      const reserve = (sql: Sql) => queries.reserve(sql, id, request.payer, amount, rules, lease);
      const reserved = await withTransaction(database, reserve, queueKeyOf(request.payer.userId));
      if ("exceeded" in reserved) throw refuse(request.payer, reserved.exceeded);
      leased.set(id, reserved.reservation);
      return { id, outputTokensMax };
    },

    settle,

    async charge(userId, used, options = { id: createId() }) {
      const charge = () => settle(options, userId, used);
      if (used.usage) await retryTemporary(charge, AbortSignal.timeout(CHARGE_MS_MAX));
    },

    async renew() {
      if (leased.size > 0) await queries.renew(database, instanceId, [...leased.values()], LEASE_MS);
    },

    async free(signal) {
      for (let afterId: string | null = FIRST_ID; afterId !== null && !signal.aborted; ) {
        const from: string = afterId;
        ({ last_id: afterId } = await withTransaction(database, (sql) => queries.freeReservations(sql, from)));
      }
    },

    async deleteOld() {
      const windows = await queries.deleteOldWindows(database, WINDOW_RETENTION_DAYS);
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
