import { type Database, type Sql, withTransaction } from "../../db/client.ts";
import type { Log } from "../../lib/log.ts";
import type { AuditService } from "../audit/service.ts";
import type { Departures } from "../conversations/service.ts";
import * as queries from "./deletion-queries.ts";
import { DELETED_NAME } from "./model.ts";

/** A request waits for so long; what is not done by then is done after its answer. */
const WAIT_MS = 5_000;
/** A deletion that nobody has been at for so long was interrupted. */
const STALE_MS = 15_000;
/** Interrupted deletions that one instance takes up at once. */
const RESUMED_MAX = 10;

type Dependencies = { database: Database; audit: AuditService; departures: Departures; log: Log };

/**
 * What a user leaves behind is taken away in steps that each commit (docs/decisions/0040). Any instance can go on with a
 * deletion; two that do so at once are in each other's way, but do no harm.
 */
export function createDeletions({ database, audit, departures, log }: Dependencies) {
  const running = new Map<string, Promise<void>>();
  let isStopping = false;

  /** Runs steps until there is nothing more to do. @returns false when it was interrupted, or somebody else is done. */
  async function repeat(userId: string, step: () => Promise<boolean>): Promise<boolean> {
    while (await step()) if (isStopping || !(await queries.touchDeletion(database, userId))) return false;
    return true;
  }

  async function run(userId: string): Promise<void> {
    for (;;) {
      const leaving = departures.leaveAll(userId, DELETED_NAME);
      if (!(await repeat(userId, async () => !(await leaving.next()).done))) return;
      const deletePrompts = () => withTransaction(database, (sql) => queries.deletePrompts(sql, userId));
      if (!(await repeat(userId, deletePrompts))) return;
      if (!(await repeat(userId, () => queries.forgetName(database, userId, DELETED_NAME)))) return;
      // Somebody may have added them at the last moment: then it begins again.
      if (await withTransaction(database, (sql) => finish(sql, userId))) return;
    }
  }

  async function finish(sql: Sql, userId: string): Promise<boolean> {
    if (!(await queries.lockDeleted(sql, userId))) return false;
    await audit.eraseAddresses(sql, userId);
    await queries.deleteUser(sql, userId);
    return true;
  }

  function start(userId: string): Promise<void> {
    const existing = running.get(userId);
    if (existing) return existing;
    const done = run(userId)
      .catch((err) => log.error({ err, user_id: userId }, "the deletion of a user was interrupted; it will go on"))
      .finally(() => running.delete(userId));
    running.set(userId, done);
    return done;
  }

  return {
    /** Inside a transaction that has locked the user and ended their sessions. After its commit, call `complete`. */
    begin: (sql: Sql, userId: string): Promise<void> => queries.beginDeletion(sql, userId, DELETED_NAME),

    /** Takes away what is left; fulfils when that is done, or after some seconds, when it goes on by itself. */
    complete: (userId: string): Promise<void> => Promise.race([start(userId), Bun.sleep(WAIT_MS)]),

    /** For the job runner: takes up what was interrupted, on this or on another instance. */
    async resume(): Promise<void> {
      if (isStopping || running.size >= RESUMED_MAX) return;
      const stale = await queries.listStaleDeletions(database, STALE_MS, RESUMED_MAX - running.size);
      for (const userId of stale) start(userId);
    },

    /** Ends after the steps that are under way; the rest is taken up at the next start. */
    async stop(): Promise<void> {
      isStopping = true;
      await Promise.all(running.values());
    },
  };
}

export type Deletions = ReturnType<typeof createDeletions>;
