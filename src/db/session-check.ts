import postgres from "postgres";
import type { Log } from "../lib/log.ts";
import { changeSession, type Database, type Sql } from "./client.ts";
import { CLIENT_TIMEOUTS, LOCK_TIMEOUT_MS, STATEMENT_TIMEOUT_MS } from "./pool.ts";
import { checkPooler } from "./pooler-check.ts";
import {
  DIRECT_PARAMETERS,
  PORTABLE_PARAMETERS,
  SPEED_PARAMETERS,
  TCP_PARAMETERS,
  TIMEOUT_PARAMETERS,
} from "./session.ts";

/** Parameters that are no longer sent once a pooler refuses one of them. */
const refusableParameters = [
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

/** SQLSTATEs with which poolers refuse a parameter: protocol_violation (PgBouncer), feature_not_supported (others). */
const refusalStates = new Set(["08P01", "0A000"]);

/** The schema that Parley uses if the search path is wrong. */
const SCHEMA = "public";

type SchemaLookup = { schema: string | null; path: string; is_in_current: boolean; is_in_public: boolean };

/**
 * Applies the session settings that Parley needs, and logs a warning for each that it can't change. Must run before all other
 * queries.
 * @throws the driver's error if the database is unreachable.
 */
export async function prepareSession(database: Database, log: Log): Promise<void> {
  const pooling = await checkPooler(database).catch((error) => {
    if (!isParameterRefused(error)) throw error;
    changeSession(database, Object.fromEntries(refusableParameters.map((name) => [name, undefined])));
    log.info("the pooler refuses some startup parameters; continuing without them");
    return checkPooler(database);
  });
  if (pooling !== "none") log.info({ pool_mode: pooling }, "connected through a pooler");
  await fixSearchPath(database, log);
  for (const warning of await describeWrongSettings(database)) log.warn(warning);
  if (pooling !== "none") for (const warning of await describeMissingTimeouts(database)) log.warn(warning);
}

/** Returns whether a pooler has refused a parameter; the error names the first one. Postgres itself accepts all of them. */
function isParameterRefused(error: unknown): boolean {
  if (!(error instanceof postgres.PostgresError) || !refusalStates.has(error.code)) return false;
  const text = error.message.toLowerCase();
  return [...refusableParameters, "search_path"].some((name) => text.includes(name.toLowerCase()));
}

/** Replaces the search path if none of its schemas exists or contains Parley's tables. */
async function fixSearchPath(database: Database, log: Log): Promise<void> {
  const lookup = await readSchemaLookup(database);
  if (!isWrongSchema(lookup)) return;
  changeSession(database, { search_path: SCHEMA });
  await terminateSessions(database);
  const isFixed = await hasRightSchema(database);
  const problem = `search_path is ${JSON.stringify(lookup.path)}, which does not contain Parley's tables`;
  log.warn(
    isFixed
      ? `${problem}; Parley uses the schema "${SCHEMA}" instead.`
      : `${problem}, and Parley cannot change it behind a pooler; run \`alter role … set search_path = ${SCHEMA}\`.`,
  );
}

/** Returns whether Parley's tables are now in the search path. If a pooler refuses the parameter, it is no longer sent. */
async function hasRightSchema(database: Database): Promise<boolean> {
  try {
    return !isWrongSchema(await readSchemaLookup(database));
  } catch (error) {
    if (!isParameterRefused(error)) throw error;
    changeSession(database, { search_path: undefined });
    return false;
  }
}

const isWrongSchema = ({ schema, is_in_current, is_in_public }: SchemaLookup): boolean =>
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

/** Returns a warning for each setting that a pooler didn't pass on. */
async function describeWrongSettings(sql: Sql): Promise<string[]> {
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
