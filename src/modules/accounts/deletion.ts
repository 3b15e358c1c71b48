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

/** The job queue of user deletions. Its jobs are user ids. */
export const USER_DELETIONS = "user deletions";

/** The maximum time that a request waits for the deletion. After that, the deletion continues in the background. */
const WAIT_TIMEOUT_MS = 5_000;

/**
 * Deletes a user's data in separately committed steps (docs/decisions/0040). A queued job runs them, so any instance can resume
 * them.
 */
export interface Deletions {
  /**
   * Starts the deletion, in a transaction that has locked the user and ended their sessions. After the commit, call
   * `complete`.
   */
  begin(sql: Sql, userId: string): Promise<void>;

  /** Resolves when the user is deleted, or after a few seconds while the deletion continues in the background. */
  complete(userId: string): Promise<void>;

  /** Deletes the remaining data, as a queued job. @throws the signal's reason if it is aborted. */
  run(userId: string, signal: AbortSignal): Promise<void>;
}

type Dependencies = {
  database: Database;
  audit: AuditService;
  departures: Departures;
  jobs: Pick<Jobs, "nudge">;
  /** Called once the user and their prompts are deleted, to update what other users see. */
  onDeleted(userId: string): void;
};

export function createDeletions({ database, audit, departures, jobs, onDeleted }: Dependencies): Deletions {
  async function finish(sql: Sql, userId: string): Promise<boolean> {
    if (!(await queries.lockForDeletion(sql, userId))) return false;
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
      await waitUntilDeleted(() => queries.isBeingDeleted(database, userId), WAIT_TIMEOUT_MS);
    },

    async run(userId, signal) {
      const repeat = async (step: () => Promise<boolean>): Promise<void> => {
        while (await step()) signal.throwIfAborted();
      };
      do {
        const departuresInProgress = departures.leaveAll(userId, DELETED_NAME);
        await repeat(async () => !(await departuresInProgress.next()).done);
        await repeat(() => releasePrompts(database, { userId }));
        await repeat(() => withTransaction(database, async (sql) => (await deletePrompts(sql, { userId })) > 0));
        await repeat(() => queries.removeName(database, userId, DELETED_NAME));
        await repeat(() => queries.deleteRows(database, userId));
        await repeat(() => withTransaction(database, (sql) => audit.eraseAddresses(sql, userId)));
        signal.throwIfAborted();
        // Starts again if a concurrent request has added a membership.
      } while (!(await withTransaction(database, (sql) => finish(sql, userId))));
      onDeleted(userId);
    },
  };
}
