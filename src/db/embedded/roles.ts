import postgres from "postgres";
import { openDatabase, type Sql } from "../client.ts";

/** The role that owns the cluster. Parley uses it only during startup. */
export const SUPERUSER = "parley";
/** The role that Parley uses after startup. It owns the database and everything in it, and nothing else. */
export const APPLICATION_ROLE = "parley_app";

const DATABASE = "parley";
const NO_SUCH_DATABASE = "3D000";

/** Queries for the class, oid, owner and schema of each object whose owner can be changed. There is one query per catalog. */
const OWNED_OBJECTS = [
  // A sequence owned by a column follows its table.
  "select 'pg_class'::regclass as class, c.oid, relowner as owner, relnamespace as schema from pg_class c where relkind in ('r', 'p', 'v', 'm', 'f') or relkind = 'S' and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype in ('a', 'i'))",
  "select 'pg_type'::regclass, t.oid, typowner, typnamespace from pg_type t where typtype in ('e', 'd', 'r') or typtype = 'c' and exists (select from pg_class c where c.oid = typrelid and relkind = 'c')",
  "select 'pg_proc'::regclass, oid, proowner, pronamespace from pg_proc",
  "select 'pg_ts_config'::regclass, oid, cfgowner, cfgnamespace from pg_ts_config",
  "select 'pg_ts_dict'::regclass, oid, dictowner, dictnamespace from pg_ts_dict",
  "select 'pg_namespace'::regclass, oid, nspowner, oid from pg_namespace",
];
/** The lowest OID of objects that aren't system objects (FirstNormalObjectId in PostgreSQL). */
const FIRST_USER_OID = 16_384;

/** Selects objects that the superuser still owns, except extension members. */
const UNTRANSFERRED = `
  from (${OWNED_OBJECTS.join("\n  union all ")}) o
  join pg_namespace n on n.oid = o.schema
  where o.owner = '${SUPERUSER}'::regrole
    and o.oid >= ${FIRST_USER_OID}
    and n.nspname !~ '^pg_'
    and not exists (select from pg_depend d where d.classid = o.class and d.objid = o.oid and d.deptype = 'e')`;

const ENSURE_ROLE = `
  if to_regrole('${APPLICATION_ROLE}') is null then
    create role ${APPLICATION_ROLE} login;
  end if`;

/**
 * Creates the application role and the database if they are missing. Makes the role the owner of all objects that the superuser still owns
 * (because they are older than the role, or an earlier transfer was interrupted). The superuser's connection is closed afterwards.
 * @param isNew whether the cluster was just created and has no database yet.
 */
export async function prepareDatabase(socketDirectory: string, isNew: boolean): Promise<void> {
  if (isNew) await runAsSuperuser(socketDirectory, "postgres", createApplicationDatabase);
  else
    try {
      await runAsSuperuser(socketDirectory, DATABASE, transferOwnership);
    } catch (error) {
      if (!(error instanceof postgres.PostgresError && error.code === NO_SUCH_DATABASE)) throw error;
      await runAsSuperuser(socketDirectory, "postgres", createApplicationDatabase);
    }
}

async function runAsSuperuser(
  socketDirectory: string,
  database: string,
  work: (sql: Sql) => Promise<void>,
): Promise<void> {
  const sql = openDatabase({ target: { socketDirectory, user: SUPERUSER, database }, poolSize: 1 });
  try {
    await work(sql);
  } finally {
    await sql.end({ timeout: 1 });
  }
}

async function createApplicationDatabase(sql: Sql): Promise<void> {
  await sql.unsafe(`do $$ begin ${ENSURE_ROLE}; end $$`);
  await sql.unsafe(`create database ${DATABASE} owner ${APPLICATION_ROLE}`);
}

async function transferOwnership(sql: Sql): Promise<void> {
  const [state] = await sql.unsafe(`
    select datdba = to_regrole('${APPLICATION_ROLE}') and not exists (select ${UNTRANSFERRED}) as "isDone"
    from pg_database where datname = '${DATABASE}'`);
  if (state?.isDone) return;
  await sql.unsafe(`
    do $$
    declare object record;
    begin
      ${ENSURE_ROLE};
      alter database ${DATABASE} owner to ${APPLICATION_ROLE};
      for object in select (pg_identify_object(o.class, o.oid, 0)).* ${UNTRANSFERRED} loop
        execute format('alter %s %s owner to ${APPLICATION_ROLE}', object.type, object.identity);
      end loop;
    end $$`);
}
