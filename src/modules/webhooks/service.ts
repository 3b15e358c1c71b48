import type { Caller } from "../../access/caller.ts";
import { type Database, requireRow, type Sql, withTransaction } from "../../db/client.ts";
import type { Precondition } from "../../http/etag.ts";
import { type PageRequest, parseIdCursor } from "../../http/pagination.ts";
import { enqueue } from "../../jobs/queue.ts";
import type { Jobs } from "../../jobs/runner.ts";
import { waitUntilDeleted } from "../../lib/batches.ts";
import { createId } from "../../lib/id.ts";
import { checkTargetUrl } from "../../lib/outgoing/target-url.ts";
import { createInvalidProblem, Problem } from "../../lib/problem.ts";
import type { AuditAction } from "../audit/model.ts";
import type { AuditService } from "../audit/service.ts";
import type { QuotaService } from "../quotas/service.ts";
import {
  ALL_EVENTS,
  type ChangeWebhook,
  type CreateWebhook,
  type DeliveryStatus,
  TEST_EVENT,
  type Webhook,
  type WebhookDelivery,
  type WebhookWithSecret,
} from "./model.ts";
import * as queries from "./queries.ts";
import type { WebhookSecrets } from "./secrets.ts";

/** The job queue of webhook deletions; its keys are webhook ids. */
export const WEBHOOK_DELETIONS = "webhook deletions";
/** Maximum time that a request waits for a deletion. After that, the deletion continues in the background. */
const DELETION_WAIT_MS = 2_000;
/** After a rotation, deliveries are also signed with the previous secret for this time. */
export const PREVIOUS_SECRET_TTL_S = 24 * 60 * 60;

/** Manages webhooks. Only the user who created a webhook can see it; administrators can't. */
export interface WebhookService {
  /** Returns one of the caller's webhooks. @throws Problem `not_found`. */
  get(caller: Caller, id: string): Promise<Webhook>;

  /** Lists the caller's webhooks, newest first. `page.after` is [id]. @throws Problem `bad_cursor`. */
  list(caller: Caller, page: PageRequest): Promise<queries.WebhookRow[]>;

  /** Creates a webhook for the caller. @throws Problem `invalid` (URL or events), `quota_exceeded`. */
  create(caller: Caller, input: CreateWebhook): Promise<WebhookWithSecret>;

  /**
   * Changes one of the caller's webhooks. If it is disabled, its pending deliveries fail.
   * @throws Problem `not_found`, `invalid`, `precondition_failed`.
   */
  change(caller: Caller, id: string, input: ChangeWebhook, precondition?: Precondition): Promise<Webhook>;

  /**
   * Deletes one of the caller's webhooks, including its deliveries.
   * @throws Problem `not_found`, `precondition_failed`.
   */
  remove(caller: Caller, id: string, precondition?: Precondition): Promise<void>;

  /**
   * Creates a new secret for one of the caller's webhooks. For 24 hours, deliveries are also signed with the previous secret. Any
   * older secret becomes invalid.
   * @throws Problem `not_found`.
   */
  rotate(caller: Caller, id: string): Promise<WebhookWithSecret>;

  /**
   * Delivers a `webhook.test` event to one of the caller's webhooks.
   * @throws Problem `not_found`, `conflict` (the webhook is disabled).
   */
  test(caller: Caller, id: string): Promise<WebhookDelivery>;

  /**
   * Lists the deliveries of one of the caller's webhooks, newest first. `page.after` is [id].
   * @throws Problem `not_found`, `bad_cursor`.
   */
  listDeliveries(
    caller: Caller,
    id: string,
    status: DeliveryStatus | undefined,
    page: PageRequest,
  ): Promise<queries.DeliveryRow[]>;

  /** Returns a delivery of one of the caller's webhooks. @throws Problem `not_found`. */
  getDelivery(caller: Caller, id: string, deliveryId: string): Promise<WebhookDelivery>;

  /**
   * Delivers an event again to one of the caller's webhooks, with the same delivery id.
   * @throws Problem `not_found`, `conflict` (the webhook is disabled).
   */
  redeliver(caller: Caller, id: string, deliveryId: string): Promise<WebhookDelivery>;

  /** Runs a queued deletion. Deletes a webhook and its deliveries, in batches. */
  runDeletion(id: string, signal: AbortSignal): Promise<void>;
}

/** The operations of delivery/ that the service needs. */
export type DeliveryControl = {
  /** Adds a delivery, even if the webhook doesn't subscribe to the event. Returns the delivery's id. */
  addDelivery(sql: Sql, delivery: { webhookId: string; type: string; data: unknown }): Promise<string>;
  /** Makes a delivery due immediately and resets its attempts, regardless of its status. */
  redeliver(sql: Sql, deliveryId: string): Promise<void>;
  disable(sql: Sql, webhookId: string, reason: "user"): Promise<void>;
  enable(sql: Sql, webhookId: string): Promise<void>;
  /** Call this after committing a change that may have made deliveries due. */
  nudge(): void;
};

type Dependencies = {
  database: Database;
  audit: AuditService;
  quotas: Pick<QuotaService, "requireBelowLimit">;
  jobs: Pick<Jobs, "nudge">;
  secrets: WebhookSecrets;
  deliveries: DeliveryControl;
  /** Whether URLs may point to private addresses. */
  allowPrivate: boolean;
};

export function createWebhookService({
  database,
  audit,
  quotas,
  jobs,
  secrets,
  deliveries,
  allowPrivate,
}: Dependencies): WebhookService {
  const withWebhookTransaction = <T>(id: string, work: (sql: Sql) => Promise<T>) =>
    withTransaction(database, work, `webhook:${id}`);

  async function lockWebhook(sql: Sql, caller: Caller, id: string): Promise<queries.WebhookRow> {
    return requireRow(await queries.lockWebhook(sql, id, caller.user.id), "webhook");
  }

  async function lockEnabledWebhook(sql: Sql, caller: Caller, id: string): Promise<void> {
    if ((await lockWebhook(sql, caller, id)).disabled_at === null) return;
    throw new Problem("conflict", "The webhook is disabled. Enable it first with PATCH `disabled: false`.");
  }

  async function getWebhook(caller: Caller, id: string): Promise<queries.WebhookRow> {
    return requireRow(await queries.findWebhook(database, id, caller.user.id), "webhook");
  }

  const recordAuditEntry = (
    sql: Sql,
    { user, credentialId, ipAddress }: Caller,
    action: AuditAction,
    id: string,
    details = {},
  ) =>
    audit.record(sql, { action, actorId: user.id, credentialId, target: { type: "webhook", id }, ipAddress, details });

  function checkTarget(url: string): void {
    const error = checkTargetUrl(url, allowPrivate);
    if (error !== null) throw createInvalidProblem("#/url", error);
  }

  async function getDelivery(sql: Sql, webhookId: string, id: string): Promise<WebhookDelivery> {
    return queries.mapToDelivery(requireRow(await queries.findDelivery(sql, webhookId, id), "delivery"));
  }

  return {
    get: async (caller, id) => queries.mapToWebhook(await getWebhook(caller, id)),

    list: (caller, { limit, after }) => queries.listWebhooks(database, caller.user.id, parseIdCursor(after), limit + 1),

    async create(caller, { url, events, description = null }) {
      checkTarget(url);
      checkEvents(events);
      const userId = caller.user.id;
      const id = createId();
      const secret = secrets.create();
      const sealedSecret = secrets.seal(id, secret);
      const insert = async (sql: Sql) => {
        quotas.requireBelowLimit("webhooks", await queries.lockAndCountWebhooks(sql, userId));
        const webhook = { id, userId, url, events: [...new Set(events)], description, sealedSecret };
        const row = await queries.insertWebhook(sql, webhook);
        await recordAuditEntry(sql, caller, "webhook.created", id, createAuditDetails(row));
        return row;
      };
      const row = await withTransaction(database, insert, `user:${userId}`);
      deliveries.nudge();
      return { ...queries.mapToWebhook(row), secret };
    },

    async change(caller, id, input, precondition) {
      if (input.url !== undefined) checkTarget(input.url);
      if (input.events !== undefined) checkEvents(input.events);
      const update = async (sql: Sql) => {
        const current = await lockWebhook(sql, caller, id);
        precondition?.(queries.mapToWebhook(current));
        const { url = current.url, description = current.description, disabled = current.disabled_at !== null } = input;
        const events = [...new Set(input.events ?? current.events)];
        const wasDisabled = current.disabled_at !== null;
        const isUnchanged =
          url === current.url && description === current.description && isSameList(events, current.events);
        if (isUnchanged && disabled === wasDisabled) return current;
        if (disabled && !wasDisabled) await deliveries.disable(sql, id, "user");
        if (!disabled && wasDisabled) await deliveries.enable(sql, id);
        const row = await queries.updateWebhook(sql, id, { url, events, description });
        await recordAuditEntry(sql, caller, "webhook.changed", id, createAuditDetails(row));
        return row;
      };
      const row = await withWebhookTransaction(id, update);
      deliveries.nudge();
      return queries.mapToWebhook(row);
    },

    async remove(caller, id, precondition) {
      const remove = async (sql: Sql) => {
        const current = await lockWebhook(sql, caller, id);
        precondition?.(queries.mapToWebhook(current));
        await queries.markWebhookDeleted(sql, id);
        await enqueue(sql, WEBHOOK_DELETIONS, [id]);
        await recordAuditEntry(sql, caller, "webhook.deleted", id);
      };
      await withWebhookTransaction(id, remove);
      jobs.nudge(WEBHOOK_DELETIONS);
      await waitUntilDeleted(() => queries.webhookExists(database, id), DELETION_WAIT_MS);
    },

    async rotate(caller, id) {
      const secret = secrets.create();
      const rotate = async (sql: Sql) => {
        await lockWebhook(sql, caller, id);
        const row = await queries.rotateSecret(sql, id, secrets.seal(id, secret), PREVIOUS_SECRET_TTL_S);
        await recordAuditEntry(sql, caller, "webhook.secret_rotated", id);
        return row;
      };
      return { ...queries.mapToWebhook(await withWebhookTransaction(id, rotate)), secret };
    },

    async test(caller, id) {
      const data = { webhook_id: id };
      const add = async (sql: Sql) => {
        await lockEnabledWebhook(sql, caller, id);
        const deliveryId = await deliveries.addDelivery(sql, { webhookId: id, type: TEST_EVENT, data });
        return getDelivery(sql, id, deliveryId);
      };
      const delivery = await withWebhookTransaction(id, add);
      deliveries.nudge();
      return delivery;
    },

    async listDeliveries(caller, id, status, { limit, after }) {
      await getWebhook(caller, id);
      return queries.listDeliveries(database, id, { status, beforeId: parseIdCursor(after), limit: limit + 1 });
    },

    async getDelivery(caller, id, deliveryId) {
      await getWebhook(caller, id);
      return getDelivery(database, id, deliveryId);
    },

    async redeliver(caller, id, deliveryId) {
      const restart = async (sql: Sql) => {
        await lockWebhook(sql, caller, id);
        await getDelivery(sql, id, deliveryId);
        await lockEnabledWebhook(sql, caller, id);
        await deliveries.redeliver(sql, deliveryId);
        return getDelivery(sql, id, deliveryId);
      };
      const delivery = await withWebhookTransaction(id, restart);
      deliveries.nudge();
      return delivery;
    },

    async runDeletion(id, signal) {
      const deleteBatch = (sql: Sql) => queries.deleteDeliveries(sql, { id });
      while (await withTransaction(database, deleteBatch)) signal.throwIfAborted();
      await withTransaction(database, (sql) => queries.deleteWebhook(sql, id));
    },
  };
}

/** Creates the details for the audit log. They exclude the URL's path and query, which may contain a token. */
const createAuditDetails = ({ url, events, disabled_at }: queries.WebhookRow) => ({
  host: new URL(url).host,
  events: events.join(" "),
  disabled: disabled_at !== null,
});

const isSameList = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((event, n) => event === b[n]);

function checkEvents(events: readonly string[]): void {
  if (events.length > 1 && events.includes(ALL_EVENTS))
    throw createInvalidProblem("#/events", "`*` already includes every event: send it alone.");
}
