import { canRead, type ReadFile } from "./contradictions.ts";
import { parseDatabaseUrl } from "./database-url.ts";

type Given = {
  /** Variables of libpq, which say what a URL leaves open. */
  environment: Record<string, string | undefined>;
  readFile: ReadFile;
};

/** What is wrong with DATABASE_URL, as far as it can be told without connecting; sentences without a secret. */
export function findDatabaseUrlProblems(url: string, { environment, readFile }: Given): string[] {
  const parsed = parseDatabaseUrl(url);
  if ("problems" in parsed) return parsed.problems;
  const { address } = parsed;
  const problems: string[] = [];
  // Parley asks a socket then, and other programs of libpq would ask another server.
  if (address.host === undefined && address.socketDirectory === undefined && environment.PGHOST)
    problems.push("DATABASE_URL: it names no host while PGHOST is set; write the host into DATABASE_URL.");
  if (address.host === undefined && address.port === undefined && environment.PGPORT)
    problems.push("DATABASE_URL: it names no port while PGPORT is set; write the port into DATABASE_URL.");
  const { sslrootcert, sslcert, sslkey } = address;
  for (const [name, path] of Object.entries({ sslrootcert, sslcert, sslkey }))
    if (path !== undefined && path !== "system" && !canRead(path, readFile))
      problems.push(`DATABASE_URL: the file of ${name} cannot be read: ${path}.`);
  return problems;
}
