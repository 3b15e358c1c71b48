import type { Sql } from "../../db/client.ts";
import { type ClockReading, compareClocks } from "./clock-reading.ts";

/** Properties of a database server. */
export type DatabaseFacts = {
  version: string;
  major: number;
  is_superuser: boolean;
  max_connections: number;
  reserved_connections: number;
  used_connections: number;
  /** The role's connection limit; null if there is none. */
  role_limit: number | null;
  /** The database's connection limit; null if there is none. */
  database_limit: number | null;
  autovacuum: string;
  fsync: string;
  is_tls: boolean;
  /** Age of the oldest transaction of another client; null if there is none. */
  oldest_transaction_s: number | null;
  oldest_client: string | null;
  /** Number of statements that have waited for a lock for more than 3 seconds. */
  blocked_statements: number;
  /** Number of transactions prepared more than 10 minutes ago. */
  prepared_transactions: number;
  /** Parley's tables that the role isn't allowed to read or write. */
  inaccessible_tables: string[];
  latencyMs: number;
  clock: ClockReading;
};

const LATENCY_SAMPLES = 3;

/** Reads the server's properties, and measures the latency and the clock difference. */
export async function readDatabaseFacts(sql: Sql): Promise<DatabaseFacts> {
  const [row] = await sql<Omit<DatabaseFacts, "latencyMs" | "clock">[]>`
    select current_setting('server_version') as version,
      current_setting('server_version_num')::int / 10000 as major,
      (select rolsuper from pg_roles where rolname = current_user) as is_superuser,
      current_setting('max_connections')::int as max_connections,
      current_setting('superuser_reserved_connections')::int
        + coalesce(current_setting('reserved_connections', true), '0')::int as reserved_connections,
      (select count(*)::int from pg_stat_activity where datname is not null) as used_connections,
      (select nullif(rolconnlimit, -1) from pg_roles where rolname = current_user) as role_limit,
      (select nullif(datconnlimit, -1) from pg_database where datname = current_database()) as database_limit,
      current_setting('autovacuum') as autovacuum, current_setting('fsync') as fsync,
      coalesce((select ssl from pg_stat_ssl where pid = pg_backend_pid()), false) as is_tls,
      extract(epoch from now() - oldest.xact_start)::int as oldest_transaction_s,
      concat('process ', oldest.pid, ' ', nullif(oldest.application_name, '')) as oldest_client,
      (select count(*)::int from pg_stat_activity where datname = current_database()
        and wait_event_type = 'Lock' and query_start < now() - interval '3 seconds') as blocked_statements,
      (select count(*)::int from pg_prepared_xacts where database = current_database()
        and prepared < now() - interval '10 minutes') as prepared_transactions,
      array(select relname from pg_class where relnamespace = current_schema()::regnamespace and relkind in ('r', 'p')
        and to_regclass('migrations') is not null
        and not (has_table_privilege(oid, 'select') and has_table_privilege(oid, 'insert')
          and has_table_privilege(oid, 'update') and has_table_privilege(oid, 'delete'))
        order by relname) as inaccessible_tables
    from (select 1) one left join lateral (
      select pid, application_name, xact_start from pg_stat_activity
      where datname = current_database() and pid <> pg_backend_pid() and xact_start is not null
        and backend_type = 'client backend'
      order by xact_start limit 1) oldest on true`;
  if (!row) throw new Error("Postgres returned no row.");
  let latencyMs = Number.POSITIVE_INFINITY;
  let clock: ClockReading | undefined;
  for (let sample = 0; sample < LATENCY_SAMPLES; sample += 1) {
    const startedAtMs = performance.now();
    const sentAtMs = Date.now();
    const [clockRow] = await sql<{ ms: number }[]>`select (extract(epoch from clock_timestamp()) * 1000)::float8 as ms`;
    latencyMs = Math.min(latencyMs, performance.now() - startedAtMs);
    clock = compareClocks("the database", clockRow?.ms ?? 0, { sentAtMs, receivedAtMs: Date.now() });
  }
  if (!clock) throw new Error("Postgres returned no time.");
  return { ...row, latencyMs, clock };
}
