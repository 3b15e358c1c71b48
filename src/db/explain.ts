import { isDatabaseUnavailable } from "./errors.ts";

/** Explains in one sentence what a database error means and how to fix it. Returns null for other errors. */
export function explainDatabaseError(error: unknown): string | null {
  if (!(error instanceof Error)) return null;
  const code = "code" in error ? String(error.code) : "";
  const text = error.message;
  // SQLSTATE codes are listed in appendix A of PostgreSQL's documentation. too_many_connections (53300) can mean the server's,
  // the role's or the database's limit. PgBouncer has no code for it.
  if (code === "53300")
    return `The server in DATABASE_URL accepts no more connections (${text}); raise its max_connections or the named connection limit, or lower DATABASE_POOL_SIZE.`;
  if (code === "08P01" && /no more connections allowed/.test(text))
    return `The pooler in DATABASE_URL accepts no more connections (${text}); raise PgBouncer's max_client_conn, or lower DATABASE_POOL_SIZE.`;
  const [, parameter] = /unsupported startup parameter: (\w+)/.exec(text) ?? [];
  if (parameter)
    return `The pooler in DATABASE_URL does not accept \`${parameter}\`; remove it from DATABASE_URL, and set it for the role instead, or add it to PgBouncer's ignore_startup_parameters.`;
  // disk_full
  if (code === "53100") return `The database's disk is full (${text}); free some space and try again.`;
  // read_only_sql_transaction
  if (code === "25006")
    return `The database is read-only (${text}); set DATABASE_URL to the primary, and check default_transaction_read_only.`;
  if (isDatabaseUnavailable(error))
    return `The database is unreachable (${addCode(text, code)}); check that it is running, and check DATABASE_URL.`;
  // invalid_catalog_name, class 28 (invalid authorization specification), insufficient_privilege.
  if (code === "3D000") return `The database does not exist (${text}); create it, or correct DATABASE_URL.`;
  if (/^28...$/.test(code) && /no encryption|SSL off/.test(text))
    return `Postgres accepts no connections without TLS (${text}); add sslmode=require to DATABASE_URL, or change pg_hba.conf.`;
  if (/^28...$/.test(code))
    return `Postgres rejected the login (${text}); correct the user and the password in DATABASE_URL.`;
  if (code === "42501")
    return `The user in DATABASE_URL lacks permission (${text}); make it the owner of the database.`;
  // object_not_in_prerequisite_state: the database doesn't accept connections.
  if (code === "55000")
    return `The database accepts no connections (${text}); see \`alter database … allow_connections\`.`;
  if (/CERT|SELF_SIGNED|ALTNAME|UNABLE_TO_VERIFY/.test(code))
    return `The database server's certificate is not trusted (${addCode(text, code)}); correct sslrootcert and sslmode in DATABASE_URL.`;
  return null;
}

const addCode = (text: string, code: string): string =>
  code && !text.includes(code) && !/^\d/.test(code) ? `${text}, ${code}` : text;
