import { ArchiveError, type BackupSummary, type ServerSecret, verifyBackup, writeBackup } from "../../db/archive.ts";
import type { Database } from "../../db/client.ts";
import { explainDatabaseError } from "../../db/explain.ts";
import type { Log } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import { formatBackupName } from "./names.ts";
import * as queries from "./queries.ts";
import { findExpired, type Retention } from "./retention.ts";
import { computeRetryMs, isBackupDue } from "./schedule.ts";
import type { BackupStore } from "./store.ts";

/** Scheduled backups. Only operators can access their contents. */
export interface BackupService {
  /** Whether a backup is due. Also reads the result of the last backup, whichever instance made it. */
  isDue(): Promise<boolean>;
  /**
   * Makes the due backup, verifies it, and deletes the backups that the retention rules don't keep. A failure is logged, counted and
   * retried later. Only one instance may run it at a time.
   * @throws the signal's reason if it is aborted. Another instance makes the backup then, or this one after a restart.
   */
  makeDue(signal: AbortSignal): Promise<void>;
  /** Whether the last attempt succeeded, or there hasn't been one yet. */
  isHealthy(): boolean;
}

type Dependencies = {
  database: Database;
  log: Log;
  metrics: Metrics;
  schedule: { pattern: string; timeZone: string };
  store: BackupStore;
  secret: ServerSecret;
  passphrase: string | undefined;
  retention: Retention;
};

export function createBackupService(deps: Dependencies): BackupService {
  const { database, log, metrics, schedule, store } = deps;
  let failures = 0;

  /** Runs on every instance, so that all report the same metrics and readiness. */
  function updateMetrics(state: queries.ScheduleState): void {
    failures = state.failures;
    if (state.succeededAt) metrics.backupLastSuccess.set(state.succeededAt.getTime() / 1_000);
    if (state.bytes !== null) metrics.backupSize.set(state.bytes);
  }

  async function findDue(): Promise<queries.ScheduleState | null> {
    const state = await queries.findScheduleState(database);
    if (state === null) {
      await queries.beginSchedule(database);
      return null;
    }
    updateMetrics(state);
    return isBackupDue(state, schedule.pattern, schedule.timeZone) ? state : null;
  }

  async function makeBackup(state: queries.ScheduleState, signal: AbortSignal): Promise<void> {
    const startedAtMs = performance.now();
    await store.prepare(state.bytes);
    const name = formatBackupName(state.now, state.origin);
    const summary = await write(name, signal);
    await verify(name, summary, signal);
    // If this instance has lost its lease, another one may be making the backup.
    signal.throwIfAborted();
    await queries.recordSuccess(database, { name, bytes: summary.fileBytes });
    metrics.backups.inc({ outcome: "success" });
    const recorded = await queries.findScheduleState(database);
    if (recorded) updateMetrics(recorded);
    const durationMs = Math.round(performance.now() - startedAtMs);
    log.info(
      { name, place: store.location, bytes: summary.fileBytes, rows: summary.rows, duration_ms: durationMs },
      "scheduled backup written and verified",
    );
    await removeExpired(name, state.origin);
  }

  async function write(name: string, signal: AbortSignal): Promise<BackupSummary & { fileBytes: number }> {
    const file = await store.create(name);
    try {
      const { secret, passphrase } = deps;
      const summary = await writeBackup({ database, sink: file.write, secret, passphrase, signal });
      await file.finish();
      return summary;
    } catch (error) {
      await file.discard().catch(() => {});
      throw error;
    }
  }

  /** Reads the stored backup back. Deletes it if it is damaged, so that nobody relies on it. */
  async function verify(
    name: string,
    { fileBytes, ...written }: BackupSummary & { fileBytes: number },
    signal: AbortSignal,
  ) {
    try {
      const source = await store.read(name, fileBytes);
      const getPassphrase = async () => deps.passphrase ?? "";
      const { rows } = await verifyBackup(source, { getPassphrase, signal });
      if (rows !== written.rows)
        throw new ArchiveError("damaged", `${name} has ${rows} rows, but ${written.rows} were written.`);
    } catch (error) {
      await store.remove(name).catch(() => {});
      throw error;
    }
  }

  /** The backup counts as made even if deleting old ones fails. */
  async function removeExpired(verified: string, origin: string): Promise<void> {
    try {
      const names = findExpired(await store.list(), { origin, verified, retention: deps.retention });
      for (const name of names) await store.remove(name);
      if (names.length > 0) log.info({ names, place: store.location }, "old backups deleted according to BACKUP_KEEP");
    } catch (error) {
      log.error({ place: store.location, reason: explain(error) }, "deleting old backups failed; delete them by hand");
    }
  }

  async function handleFailure(error: unknown, before: number): Promise<void> {
    const retryMs = computeRetryMs(before + 1);
    const reason = explain(error);
    failures = before + 1;
    metrics.backups.inc({ outcome: "failure" });
    log.error(
      {
        place: store.location,
        reason,
        failures,
        retry_in_ms: retryMs,
        ...(isSelfExplanatory(error) ? {} : { err: error }),
      },
      "scheduled backup failed; it will be retried",
    );
    await queries.recordFailure(database, reason, retryMs);
  }

  return {
    isDue: async () => (await findDue()) !== null,

    async makeDue(signal) {
      // Another instance may have made the backup since this one checked.
      const state = await findDue();
      if (state === null) return;
      try {
        await makeBackup(state, signal);
      } catch (error) {
        signal.throwIfAborted();
        await handleFailure(error, state.failures);
      }
    },

    isHealthy: () => failures === 0,
  };
}

/** Errors whose message already says what to do. */
const isSelfExplanatory = (error: unknown): boolean =>
  error instanceof ArchiveError || explainDatabaseError(error) !== null;

const explain = (error: unknown): string =>
  explainDatabaseError(error) ?? (error instanceof Error ? error.message : String(error));
