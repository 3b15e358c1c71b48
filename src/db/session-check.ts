import postgres from "postgres";
import type { Log } from "../lib/log.ts";
import { changeSessionParameters, type Database, type Sql } from "./client.ts";
import { CLIENT_TIMEOUTS, LOCK_TIMEOUT_MS, STATEMENT_TIMEOUT_MS } from "./pool.ts";
import { checkPooler } from "./pooler-check.ts";
import {
  DIRECT_PARAMETERS,
  PORTABLE_PARAMETERS,
  SPEED_PARAMETERS,
  TCP_PARAMETERS,
  TIMEOUT_PARAMETERS,
} from "./session.ts";

/** The parameters that a pooler might reject. Once it rejects one of them, none of them is sent. */
const rejectableParameters = [
  ...Object.keys({ ...DIRECT_PARAMETERS, ...SPEED_PARAMETERS }),
  ...TIMEOUT_PARAMETERS,
  ...TCP_PARAMETERS,
];

/** The timeouts to recommend for the role if a pooler doesn't pass on Parley's timeouts. */
const roleTimeouts: Record<(typeof TIMEOUT_PARAMETERS)[number], number> = {
  statement_timeout: STATEMENT_TIMEOUT_MS,
  lock_timeout: LOCK_TIMEOUT_MS,
  idle_in_transaction_session_timeout: CLIENT_TIMEOUTS.idleInTransactionMs,
};

/** SQLSTATEs with which poolers reject a parameter: protocol_violation (PgBouncer), feature_not_supported (other poolers). */
const rejectionStates = new Set(["08P01", "0A000"]);

/** The schema that Parley uses if the search path is unusable. */
const SCHEMA = "public";

type SchemaLookup = { schema: string | null; path: string; is_in_current: boolean; is_in_public: boolean };

/**
 * Applies the session settings that Parley needs, and logs a warning for each that it can't change. Must run before all other
 * queries.
 * @throws the driver's error if the database is unreachable.
 */
export async function prepareSession(database: Database, log: Log): Promise<void> {
  const pooling = await checkPooler(database).catch((error) => {
    if (!isParameterRejected(error)) throw error;
    changeSessionParameters(database, Object.fromEntries(rejectableParameters.map((name) => [name, undefined])));
    log.info("the pooler rejects some startup parameters; continuing without them");
    return checkPooler(database);
  });
  if (pooling !== "none") log.info({ pool_mode: pooling }, "connected through a pooler");
  await fixSearchPath(database, log);
  for (const warning of await describeIncorrectSettings(database)) log.warn(warning);
  if (pooling !== "none") for (const warning of await describeMissingTimeouts(database)) log.warn(warning);
}

/** Returns whether a pooler has rejected a parameter. The error mentions the first such parameter. Postgres itself accepts all of them. */
function isParameterRejected(error: unknown): boolean {
  if (!(error instanceof postgres.PostgresError) || !rejectionStates.has(error.code)) return false;
  const text = error.message.toLowerCase();
  return [...rejectableParameters, "search_path"].some((name) => text.includes(name.toLowerCase()));
}

/** Replaces the search path if none of its schemas exists or contains Parley's tables. */
async function fixSearchPath(database: Database, log: Log): Promise<void> {
  const lookup = await readSchemaLookup(database);
  if (!isSearchPathUnusable(lookup)) return;
  changeSessionParameters(database, { search_path: SCHEMA });
  await terminateSessions(database);
  const isFixed = await isSearchPathFixed(database);
  const problem = `search_path is ${JSON.stringify(lookup.path)}, which does not contain Parley's tables`;
  log.warn(
    isFixed
      ? `${problem}; Parley uses the schema "${SCHEMA}" instead.`
      : `${problem}, and Parley cannot change it behind a pooler; run \`alter role … set search_path = ${SCHEMA}\`.`,
  );
}

/** Returns whether the search path contains Parley's tables. If a pooler rejects `search_path`, stops sending it. */
async function isSearchPathFixed(database: Database): Promise<boolean> {
  try {
    return !isSearchPathUnusable(await readSchemaLookup(database));
  } catch (error) {
    if (!isParameterRejected(error)) throw error;
    changeSessionParameters(database, { search_path: undefined });
    return false;
  }
}

const isSearchPathUnusable = ({ schema, is_in_current, is_in_public }: SchemaLookup): boolean =>
  schema === null || schema === "pg_catalog" || schema === "information_schema" || (!is_in_current && is_in_public);

async function readSchemaLookup(sql: Sql): Promise<SchemaLookup> {
  const [lookup] = await sql<SchemaLookup[]>`
    select current_schema() as schema, current_setting('search_path') as path,
      count(*) filter (where n.nspname = current_schema()) = 2 as is_in_current,
      count(*) filter (where n.nspname = ${SCHEMA}) = 2 as is_in_public
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relname in ('migrations', 'sql_functions') and c.relkind = 'r'`;
  if (!lookup) throw new Error("Postgres returned no row.");
  return lookup;
}

/** Returns a warning for each setting with an unexpected value, because a pooler didn't pass it on. */
async function describeIncorrectSettings(sql: Sql): Promise<string[]> {
  const expectedValues = new Map<string, string>(Object.entries({ ...PORTABLE_PARAMETERS, ...DIRECT_PARAMETERS }));
  const rows = await sql<{ name: string; value: string; role: string }[]>`
    select name, current_setting(name) as value, current_user as role from pg_settings
    where name in ${sql([...expectedValues.keys()])} order by name`;
  return rows.flatMap(({ name, value, role }) => {
    const expected = expectedValues.get(name);
    const isExact = name === "extra_float_digits" && Number(value) > 0;
    if (expected === undefined || expected === value || isExact) return [];
    const fix = `run \`alter role "${role}" set ${name} = '${expected}'\``;
    return [
      `${name} is ${JSON.stringify(value)}; Parley needs "${expected}" and cannot change it behind a pooler; ${fix}.`,
    ];
  });
}

/** Returns a warning about timeouts that neither the role nor the database sets. */
async function describeMissingTimeouts(sql: Sql): Promise<string[]> {
  const rows = await sql<{ name: keyof typeof roleTimeouts; role: string }[]>`
    select name, current_user as role from pg_settings
    where name in ${sql(TIMEOUT_PARAMETERS)} and setting = '0' order by name`;
  const [first] = rows;
  if (!first) return [];
  const fixes = rows.map(({ name, role }) => `alter role "${role}" set ${name} = '${roleTimeouts[name]}ms'`);
  return [
    `The pooler does not pass on Parley's timeouts, so statements outside transactions have none; run \`${fixes.join("; ")}\`.`,
  ];
}

/** Closes all sessions, so that new connections use the current settings. */
export async function terminateSessions(database: Database): Promise<void> {
  // The query terminates its own session last, so it always fails.
  await database`
    select pg_terminate_backend(pid) from pg_stat_activity
    where application_name = current_setting('application_name') and usename = current_user
    order by pid = pg_backend_pid()`.catch(() => {});
}
