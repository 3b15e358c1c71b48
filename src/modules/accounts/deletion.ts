import { type Database, type Sql, withTransaction } from "../../db/client.ts";
import { emitWebhookEvent } from "../../events/webhook-events.ts";
import { enqueue } from "../../jobs/queue.ts";
import type { Jobs } from "../../jobs/runner.ts";
import { waitUntilDeleted } from "../../lib/batches.ts";
import type { AuditService } from "../audit/service.ts";
import type { DepartureService } from "../conversations/service.ts";
import { deletePrompts, releasePrompts } from "../prompts/service.ts";
import * as queries from "./deletion-queries.ts";
import { DELETED_NAME } from "./model.ts";

/** The name of the job queue for user deletions. Its jobs are user ids. */
export const USER_DELETIONS = "user deletions";

/** The maximum time that a request waits for the deletion. After that, the deletion continues in the background. */
const WAIT_TIMEOUT_MS = 5_000;

/**
 * Deletes a user's data in separately committed steps (docs/decisions/0040). A queued job runs the steps, so any instance can resume
 * the deletion.
 */
export interface DeletionService {
  /**
   * Starts the deletion. Call it in a transaction that has locked the user and ended their sessions. After the commit, call
   * `waitForCompletion`.
   */
  begin(sql: Sql, userId: string): Promise<void>;

  /** Resolves when the user is deleted, or after a few seconds while the deletion continues in the background. */
  waitForCompletion(userId: string): Promise<void>;

  /** Job: deletes the remaining data. @throws the signal's reason if it is aborted. */
  run(userId: string, signal: AbortSignal): Promise<void>;
}

type Dependencies = {
  database: Database;
  audit: AuditService;
  departures: DepartureService;
  jobs: Pick<Jobs, "nudge">;
  /** Called once the user and their prompts are deleted, to update what other users see. */
  onDeleted(userId: string): void;
};

export function createDeletionService({ database, audit, departures, jobs, onDeleted }: Dependencies): DeletionService {
  async function finishDeletion(sql: Sql, userId: string): Promise<boolean> {
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

    async waitForCompletion(userId) {
      jobs.nudge(USER_DELETIONS);
      await waitUntilDeleted(() => queries.isBeingDeleted(database, userId), WAIT_TIMEOUT_MS);
    },

    async run(userId, signal) {
      const repeatStep = async (step: () => Promise<boolean>): Promise<void> => {
        while (await step()) signal.throwIfAborted();
      };
      do {
        const departuresInProgress = departures.leaveAll(userId, DELETED_NAME);
        await repeatStep(async () => !(await departuresInProgress.next()).done);
        await repeatStep(() => releasePrompts(database, { userId }));
        await repeatStep(() => withTransaction(database, async (sql) => (await deletePrompts(sql, { userId })) > 0));
        await repeatStep(() => queries.removeNameFromEvents(database, userId, DELETED_NAME));
        await repeatStep(() => queries.deleteUserRows(database, userId));
        await repeatStep(() => withTransaction(database, (sql) => audit.eraseAddresses(sql, userId)));
        signal.throwIfAborted();
        // Starts over if a concurrent request has added a membership.
      } while (!(await withTransaction(database, (sql) => finishDeletion(sql, userId))));
      onDeleted(userId);
    },
  };
}
