import postgres from "postgres";
import type { Log } from "../lib/log.ts";
import { changeSession, type Database, type Sql } from "./client.ts";
import { LOCK_TIMEOUT_MS, SILENCE, STATEMENT_TIMEOUT_MS } from "./pool.ts";
import { checkPooler } from "./pooler-check.ts";
import {
  DIRECT_PARAMETERS,
  PORTABLE_PARAMETERS,
  SPEED_PARAMETERS,
  TCP_PARAMETERS,
  TIMEOUT_PARAMETERS,
} from "./session.ts";

/** Parameters that are dropped once a pooler refuses one of them. */
const refusable = [
  ...Object.keys({ ...DIRECT_PARAMETERS, ...SPEED_PARAMETERS }),
  ...TIMEOUT_PARAMETERS,
  ...TCP_PARAMETERS,
];

/** Timeouts to set on the role behind a pooler, which doesn't pass on those of Parley's sessions. */
const roleTimeouts: Record<(typeof TIMEOUT_PARAMETERS)[number], number> = {
  statement_timeout: STATEMENT_TIMEOUT_MS,
  lock_timeout: LOCK_TIMEOUT_MS,
  idle_in_transaction_session_timeout: SILENCE.inTransactionMs,
};

/** protocol_violation, which PgBouncer sends; feature_not_supported, from other poolers. */
const refusingStates = new Set(["08P01", "0A000"]);

/** The schema that Parley uses if the search path is wrong. */
const SCHEMA = "public";

type SchemaLookup = { schema: string | null; path: string; is_here: boolean; is_in_public: boolean };

/**
 * Applies the session settings that Parley needs, and logs a warning for each that it cannot change. Must run before any
 * other query.
 * @throws the driver's error if the database is unreachable.
 */
export async function prepareSession(database: Database, log: Log): Promise<void> {
  const pooling = await checkPooler(database).catch((error) => {
    if (!isParameterRefused(error)) throw error;
    changeSession(database, Object.fromEntries(refusable.map((name) => [name, undefined])));
    log.info("the pooler refuses some startup parameters; continuing without them");
    return checkPooler(database);
  });
  if (pooling !== "none") log.info({ pool_mode: pooling }, "connected through a pooler");
  await choosePath(database, log);
  for (const sentence of await findOddSettings(database)) log.warn(sentence);
  if (pooling !== "none") for (const sentence of await findMissingTimeouts(database)) log.warn(sentence);
}

/** A pooler names the first parameter that it rejects. Postgres itself accepts all of them. */
function isParameterRefused(error: unknown): boolean {
  if (!(error instanceof postgres.PostgresError) || !refusingStates.has(error.code)) return false;
  const text = error.message.toLowerCase();
  return [...refusable, "search_path"].some((name) => text.includes(name.toLowerCase()));
}

/** Replaces a search path that leads nowhere, or past Parley's tables. A path to another schema is kept. */
async function choosePath(database: Database, log: Log): Promise<void> {
  const lookup = await readSchemaLookup(database);
  if (!usesWrongSchema(lookup)) return;
  changeSession(database, { search_path: SCHEMA });
  await endSessions(database);
  const isFixed = await usesRightSchema(database);
  const found = `search_path is ${JSON.stringify(lookup.path)}, which does not contain Parley's tables`;
  log.warn(
    isFixed
      ? `${found}; Parley uses the schema "${SCHEMA}" instead.`
      : `${found}, and Parley cannot change it behind a pooler; run \`alter role … set search_path = ${SCHEMA}\`.`,
  );
}

/** Whether the path leads to Parley's tables now. If a pooler refuses it, it is no longer sent. */
async function usesRightSchema(database: Database): Promise<boolean> {
  try {
    return !usesWrongSchema(await readSchemaLookup(database));
  } catch (error) {
    if (!isParameterRefused(error)) throw error;
    changeSession(database, { search_path: undefined });
    return false;
  }
}

const usesWrongSchema = ({ schema, is_here, is_in_public }: SchemaLookup): boolean =>
  schema === null || schema === "pg_catalog" || schema === "information_schema" || (!is_here && is_in_public);

async function readSchemaLookup(sql: Sql): Promise<SchemaLookup> {
  const [place] = await sql<SchemaLookup[]>`
    select current_schema() as schema, current_setting('search_path') as path,
      count(*) filter (where n.nspname = current_schema()) = 2 as is_here,
      count(*) filter (where n.nspname = ${SCHEMA}) = 2 as is_in_public
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relname in ('migrations', 'sql_functions') and c.relkind = 'r'`;
  if (!place) throw new Error("Postgres gave no row.");
  return place;
}

/** Warnings about settings that a pooler didn't pass on. */
async function findOddSettings(sql: Sql): Promise<string[]> {
  const wanted = new Map<string, string>(Object.entries({ ...PORTABLE_PARAMETERS, ...DIRECT_PARAMETERS }));
  const rows = await sql<{ name: string; value: string; role: string }[]>`
    select name, current_setting(name) as value, current_user as role from pg_settings
    where name in ${sql([...wanted.keys()])} order by name`;
  return rows.flatMap(({ name, value, role }) => {
    const right = wanted.get(name);
    const isExact = name === "extra_float_digits" && Number(value) > 0;
    if (right === undefined || right === value || isExact) return [];
    const cure = `run \`alter role "${role}" set ${name} = '${right}'\``;
    return [
      `${name} is ${JSON.stringify(value)}; Parley needs "${right}" and cannot change it behind a pooler; ${cure}.`,
    ];
  });
}

/** A warning about timeouts that neither the role nor the database has. */
async function findMissingTimeouts(sql: Sql): Promise<string[]> {
  const rows = await sql<{ name: keyof typeof roleTimeouts; role: string }[]>`
    select name, current_user as role from pg_settings
    where name in ${sql(TIMEOUT_PARAMETERS)} and setting = '0' order by name`;
  const [first] = rows;
  if (!first) return [];
  const cures = rows.map(({ name, role }) => `alter role "${role}" set ${name} = '${roleTimeouts[name]}ms'`);
  return [
    `The pooler does not pass on Parley's timeouts, so single statements have none; run \`${cures.join("; ")}\`.`,
  ];
}

/** Makes all connections use the current settings: open ones keep the old ones. */
export async function endSessions(database: Database): Promise<void> {
  // The last one is its own, so the query ends with its connection.
  await database`
    select pg_terminate_backend(pid) from pg_stat_activity
    where application_name = current_setting('application_name') and usename = current_user
    order by pid = pg_backend_pid()`.catch(() => {});
}
