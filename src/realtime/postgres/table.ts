import type { Sql } from "../../db/client.ts";

const POLL_MS = 500;
/** Commits may happen out of id order: rows are looked up again for this long. */
const REORDER_MS = 3_000;
const ROWS_MAX = 1_000;
const RETENTION_S = 10;
const SWEEP_POLLS = 10;

type Hooks = {
  onPayload(payload: string): void;
  /** Rows inserted from now on are read. */
  onReading(): void;
};

/**
 * Messages in a small table, for instances that NOTIFY does not reach: polled twice a second, deleted after seconds. The
 * table is unlogged, so a crash of the server empties it and restarts its ids.
 */
export function createBusTable(sql: Sql, { onPayload, onReading }: Hooks) {
  let timer: Timer | undefined;
  let polls = 0;
  let isPolling = false;
  /** All rows below this were seen; later ones that were seen, by id. */
  let afterId: number | null = null;
  let seen = new Map<number, number>();

  async function poll(): Promise<void> {
    if (isPolling) return;
    isPolling = true;
    try {
      const isFirstPoll = afterId === null;
      afterId ??= await findNewestId(sql);
      if (isFirstPoll) onReading();
      const rows = await listRows(sql, afterId);
      if (rows.some(({ newest_id }) => newest_id < (afterId ?? 0))) return forget();
      for (const { id, payload } of rows) {
        if (id === null || payload === null) continue;
        if (seen.has(id)) continue;
        seen.set(id, performance.now());
        onPayload(payload);
      }
      forgetOld();
      polls += 1;
      if (polls % SWEEP_POLLS === 0) await sweep(sql);
    } finally {
      isPolling = false;
    }
  }

  function forgetOld(): void {
    const oldMs = performance.now() - REORDER_MS;
    for (const [id, seenAtMs] of seen) {
      if (seenAtMs > oldMs) continue;
      seen.delete(id);
      afterId = Math.max(afterId ?? 0, id);
    }
  }

  function forget(): void {
    afterId = null;
    seen = new Map();
  }

  return {
    /** From now on, rows inserted by others are passed to `onPayload`. The database may be temporarily unavailable. */
    start(): void {
      timer ??= setInterval(() => void poll().catch(() => {}), POLL_MS);
      timer.unref();
    },
    stop(): void {
      clearInterval(timer);
      timer = undefined;
      forget();
    },
    isRunning: (): boolean => timer !== undefined,
  };
}

const findNewestId = async (sql: Sql): Promise<number> => {
  const [row] = await sql<{ id: number }[]>`select coalesce(max(id), 0) as id from bus_messages`;
  return row?.id ?? 0;
};

type Row = { newest_id: number; id: number | null; payload: string | null };

/** One row without a message if there is none. */
const listRows = (sql: Sql, afterId: number) => sql<Row[]>`
  select s.last_value as newest_id, m.id, m.payload
  from bus_messages_id_seq s left join lateral (
    select id, payload from bus_messages where id > ${afterId} order by id limit ${ROWS_MAX}
  ) m on true
  order by m.id`;

const sweep = async (sql: Sql): Promise<void> => {
  await sql`delete from bus_messages where at < now() - make_interval(secs => ${RETENTION_S})`;
};
