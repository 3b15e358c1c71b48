import { ArchiveError, type BackupSummary, type ServerSecret, verifyBackup, writeBackup } from "../../db/archive.ts";
import type { Database } from "../../db/client.ts";
import { explainDatabaseError } from "../../db/explain.ts";
import type { Log } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import { formatBackupName } from "./names.ts";
import * as queries from "./queries.ts";
import { listExpiredBackups, type Retention } from "./retention.ts";
import { getRetryDelayMs, isBackupDue } from "./schedule.ts";
import type { BackupStore } from "./store.ts";

/** Makes scheduled backups. */
export interface BackupService {
  /** Returns whether a backup is due. Also updates this instance's metrics with the last result from any instance. */
  isDue(): Promise<boolean>;
  /**
   * Makes the due backup, verifies it, and deletes expired backups. A failure is logged, counted and retried later. Only one instance
   * may run this at a time.
   * @throws the signal's reason if it is aborted. Another instance then makes the backup, or this instance after a restart.
   */
  makeDueBackup(signal: AbortSignal): Promise<void>;
  /** Returns whether the last attempt succeeded, or no backup was attempted yet. */
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

  async function findDueState(): Promise<queries.ScheduleState | null> {
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
    const summary = await writeToStore(name, signal);
    await verifyStoredBackup(name, summary, signal);
    // If this instance has lost its lease, another one may be making the backup.
    signal.throwIfAborted();
    await queries.recordSuccess(database, { name, bytes: summary.fileBytes });
    metrics.backups.inc({ outcome: "success" });
    const newState = await queries.findScheduleState(database);
    if (newState) updateMetrics(newState);
    const durationMs = Math.round(performance.now() - startedAtMs);
    log.info(
      { name, place: store.location, bytes: summary.fileBytes, rows: summary.rows, duration_ms: durationMs },
      "scheduled backup written and verified",
    );
    await removeExpired(name, state.origin);
  }

  async function writeToStore(name: string, signal: AbortSignal): Promise<BackupSummary & { fileBytes: number }> {
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

  /** Reads and checks the stored backup. Deletes it if it is damaged. */
  async function verifyStoredBackup(
    name: string,
    { fileBytes, ...expected }: BackupSummary & { fileBytes: number },
    signal: AbortSignal,
  ) {
    try {
      const source = await store.read(name, fileBytes);
      const getPassphrase = async () => deps.passphrase ?? "";
      const { rows } = await verifyBackup(source, { getPassphrase, signal });
      if (rows !== expected.rows)
        throw new ArchiveError("damaged", `${name} has ${rows} rows, but ${expected.rows} were written.`);
    } catch (error) {
      await store.remove(name).catch(() => {});
      throw error;
    }
  }

  /** Deletes expired backups. A failure doesn't make the new backup count as failed. */
  async function removeExpired(verifiedName: string, origin: string): Promise<void> {
    try {
      const names = listExpiredBackups(await store.list(), { origin, verifiedName, retention: deps.retention });
      for (const name of names) await store.remove(name);
      if (names.length > 0) log.info({ names, place: store.location }, "old backups deleted according to BACKUP_KEEP");
    } catch (error) {
      log.error(
        { place: store.location, reason: describeError(error) },
        "deleting old backups failed; delete them manually",
      );
    }
  }

  async function recordFailure(error: unknown, failuresBefore: number): Promise<void> {
    const retryMs = getRetryDelayMs(failuresBefore + 1);
    const reason = describeError(error);
    failures = failuresBefore + 1;
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
    isDue: async () => (await findDueState()) !== null,

    async makeDueBackup(signal) {
      // Another instance may have made the backup since this one checked.
      const state = await findDueState();
      if (state === null) return;
      try {
        await makeBackup(state, signal);
      } catch (error) {
        signal.throwIfAborted();
        await recordFailure(error, state.failures);
      }
    },

    isHealthy: () => failures === 0,
  };
}

/** Returns whether the error's message tells the operator what to do, so that no stack trace is needed. */
const isSelfExplanatory = (error: unknown): boolean =>
  error instanceof ArchiveError || explainDatabaseError(error) !== null;

const describeError = (error: unknown): string =>
  explainDatabaseError(error) ?? (error instanceof Error ? error.message : String(error));
