import { isDatabaseAway } from "../db/client.ts";

/** What a person can do about an error of the database, as one sentence; null when it is something else. */
export function explainDatabaseError(error: unknown): string | null {
  if (!(error instanceof Error)) return null;
  const text = error.message;
  if (isDatabaseAway(error)) return `The database cannot be reached (${text}); check that it runs, and DATABASE_URL.`;
  const code = "code" in error ? String(error.code) : "";
  // SQLSTATE, PostgreSQL appendix A: invalid_catalog_name, class 28 (invalid authorization), insufficient_privilege.
  if (code === "3D000") return `The database is not there yet (${text}); create it, or correct DATABASE_URL.`;
  if (/^28...$/.test(code))
    return `Postgres does not let Parley in (${text}); correct the user and the password in DATABASE_URL.`;
  if (code === "42501") return `The user of DATABASE_URL may not do that (${text}); make it the owner of the database.`;
  return null;
}
