import type { Sql } from "../../db/client.ts";

const POLL_INTERVAL_MS = 500;
/** Rows may be committed out of id order. Within this time, a row with a lower id may still appear. */
const REORDER_WINDOW_MS = 3_000;
const ROWS_MAX = 1_000;
const RETENTION_S = 10;
const POLLS_PER_DELETION = 10;

type Hooks = {
  onPayload(payload: string): void;
  /** Called when polling has started. Rows that are inserted from now on will be read. */
  onStarted(): void;
};

/**
 * Creates a reader of the table of bus messages, for instances that can't receive notifications. The reader polls twice a second. Rows are
 * deleted after a few seconds. The table is unlogged, so if Postgres crashes, the table is emptied and its ids restart.
 */
export function createBusTable(sql: Sql, { onPayload, onStarted }: Hooks) {
  let timer: Timer | undefined;
  let pollCount = 0;
  let isPolling = false;
  /** All rows up to this id have been delivered. */
  let afterId: number | null = null;
  /** The time at which each later row was delivered, by id. */
  let deliveredAtMs = new Map<number, number>();

  async function poll(): Promise<void> {
    if (isPolling) return;
    isPolling = true;
    try {
      const isFirstPoll = afterId === null;
      afterId ??= await findNewestId(sql);
      if (isFirstPoll) onStarted();
      const rows = await listRows(sql, afterId);
      if (rows.some(({ newest_id }) => newest_id < (afterId ?? 0))) return reset();
      for (const { id, payload } of rows) {
        if (id === null || payload === null) continue;
        if (deliveredAtMs.has(id)) continue;
        deliveredAtMs.set(id, performance.now());
        onPayload(payload);
      }
      forgetOldRows();
      pollCount += 1;
      if (pollCount % POLLS_PER_DELETION === 0) await deleteExpiredRows(sql);
    } finally {
      isPolling = false;
    }
  }

  function forgetOldRows(): void {
    const cutoffMs = performance.now() - REORDER_WINDOW_MS;
    for (const [id, atMs] of deliveredAtMs) {
      if (atMs > cutoffMs) continue;
      deliveredAtMs.delete(id);
      afterId = Math.max(afterId ?? 0, id);
    }
  }

  function reset(): void {
    afterId = null;
    deliveredAtMs = new Map();
  }

  return {
    /** Starts polling. Errors are ignored, because the database may be temporarily unavailable. */
    start(): void {
      timer ??= setInterval(() => void poll().catch(() => {}), POLL_INTERVAL_MS);
      timer.unref();
    },
    stop(): void {
      clearInterval(timer);
      timer = undefined;
      reset();
    },
    isRunning: (): boolean => timer !== undefined,
  };
}

const findNewestId = async (sql: Sql): Promise<number> => {
  const [row] = await sql<{ id: number }[]>`select coalesce(max(id), 0) as id from bus_messages`;
  return row?.id ?? 0;
};

type Row = { newest_id: number; id: number | null; payload: string | null };

/** Lists new rows. If there are none, returns one row with only `newest_id`. */
const listRows = (sql: Sql, afterId: number) => sql<Row[]>`
  select s.last_value as newest_id, m.id, m.payload
  from bus_messages_id_seq s left join lateral (
    select id, payload from bus_messages where id > ${afterId} order by id limit ${ROWS_MAX}
  ) m on true
  order by m.id`;

const deleteExpiredRows = async (sql: Sql): Promise<void> => {
  await sql`delete from bus_messages where at < now() - make_interval(secs => ${RETENTION_S})`;
};
