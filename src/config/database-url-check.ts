import { parseDatabaseUrl } from "./database-url.ts";
import { canRead, type ReadFile } from "./setting-problems.ts";

type UrlCheckContext = {
  /** May contain libpq's variables, which provide the parts that a URL omits. */
  environment: Record<string, string | undefined>;
  readFile: ReadFile;
};

/** Finds problems with DATABASE_URL without connecting. The messages contain no secrets. */
export function findDatabaseUrlProblems(url: string, { environment, readFile }: UrlCheckContext): string[] {
  const parsed = parseDatabaseUrl(url);
  if ("problems" in parsed) return parsed.problems;
  const { address } = parsed;
  const problems: string[] = [];
  // Parley would connect to a socket, but libpq would connect to PGHOST.
  if (address.host === undefined && address.socketDirectory === undefined && environment.PGHOST)
    problems.push("DATABASE_URL: it has no host, but PGHOST is set; add the host to DATABASE_URL.");
  if (address.host === undefined && address.port === undefined && environment.PGPORT)
    problems.push("DATABASE_URL: it has no port, but PGPORT is set; add the port to DATABASE_URL.");
  const { sslrootcert, sslcert, sslkey } = address;
  for (const [name, path] of Object.entries({ sslrootcert, sslcert, sslkey }))
    if (path !== undefined && path !== "system" && !canRead(path, readFile))
      problems.push(`DATABASE_URL: the ${name} file can't be read: ${path}.`);
  return problems;
}
