import { type Caller, getKeyId } from "../../access/caller.ts";
import { type Database, type Sql, withTransaction } from "../../db/client.ts";
import { retryTemporary } from "../../db/retry.ts";
import { fitCount, fitUsd } from "../../db/storable.ts";
import { createId, NIL_UUID } from "../../lib/id.ts";
import type { Log } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import { findHighestPrices, findPrice } from "../../lib/prices.ts";
import { Problem } from "../../lib/problem.ts";
import { createChargeQueue } from "./charges.ts";
import { createExceededNotifier } from "./exceeded.ts";
import type { BudgetUsage } from "./model.ts";
import * as queries from "./queries.ts";
import {
  type BudgetConfig,
  type BudgetRules,
  createBudgetLimits,
  createRules,
  type ModelRules,
  zeroPrice,
} from "./rules.ts";
import { getPeriodEnd, mapToWindows } from "./windows.ts";

export type { Period } from "./queries.ts";

export type { BudgetRules } from "./rules.ts";

/** The lease duration of a reservation without a stored generation. If it isn't renewed, its instance has crashed. */
const LEASE_DURATION_MS = 60_000;

/** The time for which the usage of a day or month is kept. */
export const WINDOW_RETENTION_DAYS = 400;

/** The maximum time for which a charge is retried. */
const CHARGE_RETRY_TIMEOUT_MS = 5_000;

export type TokensAndCost = { usage: { input_tokens: number; output_tokens: number } | null; costUsd: number | null };

/** The options of a charge, which several callers may retry. */
type ChargeOptions = {
  /** The charge is applied once per id. */
  id: string;
  /** The reservation to settle. Default: the reservation with the same id, if it exists. */
  reservationId?: string;
  /** Returns whether to charge. It is called in the transaction that charges. */
  shouldCharge?(sql: Sql): Promise<boolean>;
};

type Reservation = {
  /** The id to settle. */
  id: string;
  /** The maximum number of tokens in the response. Null means no limit. */
  outputTokensMax: number | null;
};

/**
 * Manages the budgets of users and API keys. Reserve before calling a model, and settle with the actual usage afterwards. A reservation
 * never exceeds the remaining budget, so concurrent responses can't overspend together.
 */
export interface BudgetService {
  /** The rules by which send_messages (sql/functions) reserves budget, or null if there are no limits. */
  readonly rules: BudgetRules | null;

  /** The maximum number of tokens in a response, or null if there are no limits. */
  readonly answerTokensMax: number | null;

  /** Creates the error for a reservation that the database rejected. Also counts the rejection and notifies webhooks. */
  rejectReservation(payer: queries.Payer, period: queries.Period): Problem;

  /**
   * Reserves budget for a stored generation, within the transaction that stores it.
   * @throws Problem `budget_exceeded`.
   */
  reserveAnswer(sql: Sql, answer: queries.AnswerToReserve): Promise<void>;

  /**
   * Reserves budget for a completion without a stored generation. Always call `settle` afterwards. The reservation covers the longest
   * response, so pass the result's `outputTokensMax` to the model.
   * @throws Problem `budget_exceeded`.
   */
  reserve(request: ReservationRequest): Promise<Reservation>;

  /**
   * Replaces the reservation of a generation or completion with its actual usage. If there is no reservation, the user is charged
   * anyway. Safe to repeat, because each id is charged once.
   */
  settle(options: ChargeOptions, userId: string | null, used: TokensAndCost): Promise<void>;

  /**
   * Charges a user for usage without a reservation, for example after another instance has taken over an attempt. Retries for a few
   * seconds if the user's windows are locked.
   */
  charge(userId: string | null, used: TokensAndCost, options?: ChargeOptions): Promise<void>;

  /** Renews the leases of this instance's reservations. Call it several times per lease duration. */
  renewLeases(): Promise<void>;

  /** Releases the reservations of crashed instances, a few payers per transaction. */
  releaseExpired(signal: AbortSignal): Promise<void>;

  /** Deletes a batch of old usage. @returns how many rows were deleted, or 0 if none are left. */
  deleteOldUsage(): Promise<number>;

  /** Returns the caller's usage and limits. If the caller uses an API key, also returns the key's usage and limits. */
  getUsage(caller: Caller): Promise<BudgetUsage>;
}

type ReservationRequest = {
  payer: queries.Payer;
  model: string;
  /** Returns an upper estimate of the prompt's tokens. Called only if there are limits. */
  countPromptTokens(): number;
  outputTokensMax: number | null;
};

type Dependencies = ModelRules & {
  database: Database;
  config: BudgetConfig;
  metrics: Metrics;
  log: Log;
  /** The owner of this process's leases. */
  instanceId: string;
};

export function createBudgetService(deps: Dependencies): BudgetService {
  const { database, config, metrics, log, instanceId, ...modelRules } = deps;
  const { prices } = modelRules;
  const limits = { user: createBudgetLimits(config, "USER"), key: createBudgetLimits(config, "KEY") };
  const notifyExceeded = createExceededNotifier({ database, log, limits });
  const rules = createRules(limits, config, modelRules);
  const charges = createChargeQueue({ database });
  /** Reservations that this instance has leased, which have no stored generation. */
  const leasedReservations = new Map<string, queries.LeasedReservation>();

  function rejectReservation(payer: queries.Payer, period: queries.Period): Problem {
    notifyExceeded(payer, period);
    metrics.budgetRejections.inc({ period });
    const endsAt = getPeriodEnd(period, new Date());
    return new Problem(
      "budget_exceeded",
      `This ${period}'s budget is too small for another response. The next ${period} begins at ${endsAt.toISOString()}.`,
      { retryAfterMs: endsAt.getTime() - Date.now() },
    );
  }

  /** Returns the key by which a payer's transactions are queued, so that they don't all use a connection while they wait for a lock. */
  const createQueueKey = (userId: string | null) => (userId === null ? undefined : `payer:${userId}`);

  async function settle(
    { id, reservationId = id, shouldCharge }: ChargeOptions,
    userId: string | null,
    { usage, costUsd }: TokensAndCost,
  ): Promise<void> {
    const amount = {
      tokens: fitCount(usage?.input_tokens ?? 0) + fitCount(usage?.output_tokens ?? 0),
      usd: fitUsd(costUsd) ?? 0,
    };
    // Deleted first, so that a reservation that can't be settled isn't renewed forever.
    leasedReservations.delete(reservationId);
    const charge = { chargeId: id, reservationId, userId, ...amount };
    if (!shouldCharge) return charges.settle(charge);
    const work = async (sql: Sql) => {
      if (await shouldCharge(sql)) await queries.settleCharge(sql, charge);
    };
    await withTransaction(database, work, createQueueKey(userId));
  }

  return {
    rules,
    rejectReservation,

    answerTokensMax: rules?.answer_tokens ?? null,

    async reserveAnswer(sql, answer) {
      const exceededPeriod = rules && (await queries.reserveAnswer(sql, answer, rules));
      if (exceededPeriod) throw rejectReservation(answer, exceededPeriod);
    },

    async reserve(request) {
      const id = createId();
      if (!rules || request.model.startsWith("offline/")) return { id, outputTokensMax: request.outputTokensMax };
      const outputTokensMax = Math.min(request.outputTokensMax ?? Number.POSITIVE_INFINITY, rules.answer_tokens);
      const inputTokens = rules.prompt_tokens_extra + request.countPromptTokens();
      const { input, output } = findHighestPrices(findPrice(request.model, prices) ?? zeroPrice, inputTokens);
      const amount = {
        tokens: inputTokens + outputTokensMax,
        usd: (inputTokens * input + outputTokensMax * output) / 1_000_000,
      };
      const lease = { owner: instanceId, leaseMs: LEASE_DURATION_MS };
      const reserve = (sql: Sql) => queries.reserveBudget(sql, id, request.payer, amount, rules, lease);
      const result = await withTransaction(database, reserve, createQueueKey(request.payer.userId));
      if ("exceeded" in result) throw rejectReservation(request.payer, result.exceeded);
      leasedReservations.set(id, result.reservation);
      return { id, outputTokensMax };
    },

    settle,

    async charge(userId, used, options = { id: createId() }) {
      const charge = () => settle(options, userId, used);
      if (used.usage) await retryTemporary(charge, AbortSignal.timeout(CHARGE_RETRY_TIMEOUT_MS));
    },

    async renewLeases() {
      if (leasedReservations.size > 0)
        await queries.renewReservations(database, instanceId, [...leasedReservations.values()], LEASE_DURATION_MS);
    },

    async releaseExpired(signal) {
      for (let afterId: string | null = NIL_UUID; afterId !== null && !signal.aborted; ) {
        const from: string = afterId;
        ({ last_id: afterId } = await withTransaction(database, (sql) => queries.releaseReservations(sql, from)));
      }
    },

    async deleteOldUsage() {
      const windows = await queries.deleteOldWindows(database, WINDOW_RETENTION_DAYS);
      return windows + (await queries.deleteOldCharges(database));
    },

    async getUsage(caller) {
      const keyId = getKeyId(caller);
      const [user, key] = await Promise.all([
        queries.listWindows(database, { scope: "user", id: caller.user.id }),
        keyId !== null && limits.key ? queries.listWindows(database, { scope: "key", id: keyId }) : null,
      ]);
      return { ...mapToWindows(user, limits.user), api_key: key && mapToWindows(key, limits.key) };
    },
  };
}
