import { type Database, type Sql, withTransaction } from "../../db/client.ts";
import { emitWebhookEvent } from "../../events/webhook-events.ts";
import { enqueue } from "../../jobs/queue.ts";
import type { Jobs } from "../../jobs/runner.ts";
import { waitUntilGone } from "../../lib/batches.ts";
import type { AuditService } from "../audit/service.ts";
import type { Departures } from "../conversations/service.ts";
import { deletePrompts, releasePrompts } from "../prompts/service.ts";
import * as queries from "./deletion-queries.ts";
import { DELETED_NAME } from "./model.ts";

/** The queue of users who are being deleted, by their ids. */
export const USER_DELETIONS = "user deletions";

/** A request waits for so long; what is not done by then is done after its answer. */
const WAIT_MS = 5_000;

/**
 * What a user leaves behind is deleted in steps that each commit (docs/decisions/0040). It is work of a queue: any
 * instance can go on with it.
 */
export interface Deletions {
  /** Inside a transaction that has locked the user and ended their sessions. After its commit, call `complete`. */
  begin(sql: Sql, userId: string): Promise<void>;

  /** Fulfils when the user is gone, or after some seconds; then the deletion goes on by itself. */
  complete(userId: string): Promise<void>;

  /** The work of the queue: deletes what is left, in bounded steps. @throws the signal's reason when it is interrupted. */
  run(userId: string, signal: AbortSignal): Promise<void>;
}

type Dependencies = {
  database: Database;
  audit: AuditService;
  departures: Departures;
  jobs: Pick<Jobs, "nudge">;
  /** Called when the user is gone, with their prompts, out of what others see. */
  onGone(userId: string): void;
};

export function createDeletions({ database, audit, departures, jobs, onGone }: Dependencies): Deletions {
  async function finish(sql: Sql, userId: string): Promise<boolean> {
    if (!(await queries.lockDeleted(sql, userId))) return false;
    if (await audit.eraseAddresses(sql, userId)) return false;
    await queries.deleteUser(sql, userId);
    return true;
  }

  return {
    async begin(sql, userId) {
      await queries.beginDeletion(sql, userId, DELETED_NAME);
      await enqueue(sql, USER_DELETIONS, [userId]);
      await emitWebhookEvent(sql, { type: "user.deleted", userId, data: { id: userId } });
    },

    async complete(userId) {
      jobs.nudge(USER_DELETIONS);
      await waitUntilGone(() => queries.isBeingDeleted(database, userId), WAIT_MS);
    },

    async run(userId, signal) {
      const repeat = async (step: () => Promise<boolean>): Promise<void> => {
        while (await step()) signal.throwIfAborted();
      };
      do {
        const leaving = departures.leaveAll(userId, DELETED_NAME);
        await repeat(async () => !(await leaving.next()).done);
        await repeat(() => releasePrompts(database, { userId }));
        await repeat(() => withTransaction(database, async (sql) => (await deletePrompts(sql, { userId })) > 0));
        await repeat(() => queries.forgetName(database, userId, DELETED_NAME));
        await repeat(() => queries.deleteRows(database, userId));
        await repeat(() => withTransaction(database, (sql) => audit.eraseAddresses(sql, userId)));
        signal.throwIfAborted();
        // Somebody may have added them at the last moment: then it begins again.
      } while (!(await withTransaction(database, (sql) => finish(sql, userId))));
      onGone(userId);
    },
  };
}
