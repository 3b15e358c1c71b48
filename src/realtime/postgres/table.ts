import type { Sql } from "../../db/client.ts";

const POLL_MS = 500;
/** Rows may be committed out of id order, so they are looked up again for this long. */
const REORDER_MS = 3_000;
const ROWS_MAX = 1_000;
const RETENTION_S = 10;
const SWEEP_POLLS = 10;

type Hooks = {
  onPayload(payload: string): void;
  /** Called when rows that are inserted from now on will be read. */
  onStarted(): void;
};

/**
 * Creates the reader of a small table of messages, for instances that NOTIFY doesn't reach. It polls twice a second, and rows are
 * deleted after some seconds. The table is unlogged, so a crash of Postgres empties it and restarts its ids.
 */
export function createBusTable(sql: Sql, { onPayload, onStarted }: Hooks) {
  let timer: Timer | undefined;
  let polls = 0;
  let isPolling = false;
  /** All rows up to `afterId` have been seen. `seen` has the later rows that have been seen, with the time. */
  let afterId: number | null = null;
  let seen = new Map<number, number>();

  async function poll(): Promise<void> {
    if (isPolling) return;
    isPolling = true;
    try {
      const isFirstPoll = afterId === null;
      afterId ??= await findNewestId(sql);
      if (isFirstPoll) onStarted();
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
    /** Starts to pass rows inserted by others to `onPayload`. The database may be temporarily unavailable. */
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

/** Lists new rows. If there are none, returns one row without a message. */
const listRows = (sql: Sql, afterId: number) => sql<Row[]>`
  select s.last_value as newest_id, m.id, m.payload
  from bus_messages_id_seq s left join lateral (
    select id, payload from bus_messages where id > ${afterId} order by id limit ${ROWS_MAX}
  ) m on true
  order by m.id`;

const sweep = async (sql: Sql): Promise<void> => {
  await sql`delete from bus_messages where at < now() - make_interval(secs => ${RETENTION_S})`;
};
