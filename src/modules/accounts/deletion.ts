import { type Database, type Sql, withTransaction } from "../../db/client.ts";
import { emitWebhookEvent } from "../../events/webhook-events.ts";
import { enqueue } from "../../jobs/queue.ts";
import type { Jobs } from "../../jobs/runner.ts";
import { waitUntilDeleted } from "../../lib/batches.ts";
import type { AuditService } from "../audit/service.ts";
import type { Departures } from "../conversations/service.ts";
import { deletePrompts, releasePrompts } from "../prompts/service.ts";
import * as queries from "./deletion-queries.ts";
import { DELETED_NAME } from "./model.ts";

/** The queue of users being deleted, by id. */
export const USER_DELETIONS = "user deletions";

/** How long a request waits for the deletion; the rest continues in the background. */
const WAIT_MS = 5_000;

/**
 * Deletes a user's data in steps that each commit (docs/decisions/0040). The steps are queued jobs, so any instance can
 * resume them.
 */
export interface Deletions {
  /** Inside a transaction that has locked the user and ended their sessions. After its commit, call `complete`. */
  begin(sql: Sql, userId: string): Promise<void>;

  /** Resolves when the user is deleted, or after some seconds while the deletion continues in the background. */
  complete(userId: string): Promise<void>;

  /** The queue's job: deletes the remaining data in bounded steps. @throws the signal's reason when aborted. */
  run(userId: string, signal: AbortSignal): Promise<void>;
}

type Dependencies = {
  database: Database;
  audit: AuditService;
  departures: Departures;
  jobs: Pick<Jobs, "nudge">;
  /** Called when the user is deleted, with their prompts: removes them from what others see. */
  onDeleted(userId: string): void;
};

export function createDeletions({ database, audit, departures, jobs, onDeleted }: Dependencies): Deletions {
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
      await waitUntilDeleted(() => queries.isBeingDeleted(database, userId), WAIT_MS);
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
        // A concurrent request may have added a membership: start again.
      } while (!(await withTransaction(database, (sql) => finish(sql, userId))));
      onDeleted(userId);
    },
  };
}
