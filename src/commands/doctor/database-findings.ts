import { isIP } from "node:net";
import { formatQuantity } from "../selftest/measurements.ts";
import type { DatabaseFacts } from "./database-facts.ts";
import { type Finding, problem, warning } from "./finding.ts";

/** The newest PostgreSQL version that Parley is tested with. */
const NEWEST_MAJOR = 18;
const LATENCY_MS_MAX = 20;
const TRANSACTION_AGE_S_MAX = 600;
const LISTED_TABLES_MAX = 5;

export type DatabaseUse = {
  /** Maximum number of connections of one instance. */
  connectionsMax: number;
  /** Whether an instance is running, so that `used_connections` includes its connections. */
  isRunning: boolean;
  /** The host of DATABASE_URL; undefined for a socket or the embedded Postgres. */
  host: string | undefined;
  /** Whether Parley connects through a pooler, which hides Parley's connections and their TLS from Postgres. */
  isPooled: boolean;
};

/** Finds problems with the server, the role and current activity. */
export function checkDatabaseFacts(facts: DatabaseFacts, use: DatabaseUse): Finding[] {
  return [
    ...checkPermissions(facts),
    ...(use.isPooled ? [] : checkConnections(facts, use)),
    ...checkServer(facts, use),
    ...checkActivity(facts),
  ];
}

function checkPermissions({ is_superuser, inaccessible_tables }: DatabaseFacts): Finding[] {
  const findings: Finding[] = [];
  if (inaccessible_tables.length > 0) {
    const listedTables = inaccessible_tables.slice(0, LISTED_TABLES_MAX).join(", ");
    const moreTables =
      inaccessible_tables.length > LISTED_TABLES_MAX
        ? ` and ${inaccessible_tables.length - LISTED_TABLES_MAX} more`
        : "";
    findings.push(
      problem(
        `The user in DATABASE_URL isn't allowed to read and write ${listedTables}${moreTables}; use the user that owns the tables, or grant it all privileges on them.`,
      ),
    );
  }
  if (is_superuser)
    findings.push(
      warning(
        "The user in DATABASE_URL is a superuser, so a vulnerability in Parley would expose the whole server; create a user without that attribute and make it the owner of the database.",
      ),
    );
  return findings;
}

function checkConnections(facts: DatabaseFacts, { connectionsMax, isRunning }: DatabaseUse): Finding[] {
  const availableConnections = facts.max_connections - facts.reserved_connections;
  const limits = [
    { limit: availableConnections, name: "max_connections of the server" },
    { limit: facts.role_limit, name: "the connection limit of the role" },
    { limit: facts.database_limit, name: "the connection limit of the database" },
  ];
  const findings = limits.flatMap(({ limit, name }) =>
    limit !== null && limit < connectionsMax
      ? [
          warning(
            `One instance may open ${connectionsMax} connections, but ${name} allows ${limit}; raise it, or lower DATABASE_POOL_SIZE.`,
          ),
        ]
      : [],
  );
  const freeConnections = availableConnections - facts.used_connections;
  if (findings.length === 0 && !isRunning && freeConnections < connectionsMax)
    findings.push(
      warning(
        `Only ${freeConnections} connections of the server are free, but one instance may open ${connectionsMax}; raise max_connections, disconnect other clients, or lower DATABASE_POOL_SIZE.`,
      ),
    );
  return findings;
}

function checkServer(facts: DatabaseFacts, { host, isPooled }: DatabaseUse): Finding[] {
  const findings: Finding[] = [];
  if (facts.major > NEWEST_MAJOR)
    findings.push(warning(`The database is PostgreSQL ${facts.version}; Parley is tested with 15 to ${NEWEST_MAJOR}.`));
  if (facts.fsync === "off")
    findings.push(
      warning("fsync is off, so a crash of the machine can destroy the database; set `fsync = on` on the server."),
    );
  if (facts.autovacuum === "off")
    findings.push(
      warning("autovacuum is off, so tables grow and queries slow down; set `autovacuum = on` on the server."),
    );
  if (host !== undefined && !isPooled && !facts.is_tls && isProbablyPublic(host))
    findings.push(
      warning(
        `The connection to ${host} is not encrypted; add sslmode=verify-full (or at least require) to DATABASE_URL.`,
      ),
    );
  if (facts.latencyMs > LATENCY_MS_MAX)
    findings.push(
      warning(
        `The database takes ${Math.round(facts.latencyMs)} ms for a trivial statement, and each request needs several; run Parley in the same region, or check the server's load.`,
      ),
    );
  return findings;
}

/** Returns whether traffic to the host probably crosses a public network, because the host is a public IP address or domain name. */
function isProbablyPublic(host: string): boolean {
  if (isIP(host) === 0) return host.includes(".") && !/\.(?:internal|local|lan|svc|cluster\.local)$/.test(host);
  return !/^(?:127\.|10\.|192\.168\.|172\.(?:1[6-9]|2\d|3[01])\.|169\.254\.|::1$|f[cd]|fe80:)/i.test(host);
}

function checkActivity(facts: DatabaseFacts): Finding[] {
  const findings: Finding[] = [];
  if (facts.oldest_transaction_s !== null && facts.oldest_transaction_s > TRANSACTION_AGE_S_MAX)
    findings.push(
      warning(
        `A transaction of another client (${facts.oldest_client?.trim()}) has been open for ${Math.round(facts.oldest_transaction_s / 60)} minutes, which prevents the cleanup of deleted rows and may block migrations; terminate it (pg_terminate_backend).`,
      ),
    );
  if (facts.blocked_statements > 0)
    findings.push(
      warning(
        `${formatQuantity(facts.blocked_statements, "statement has", "statements have")} waited for a lock for more than 3 s; find the blocking process with pg_blocking_pids, and terminate it.`,
      ),
    );
  if (facts.prepared_transactions > 0)
    findings.push(
      warning(
        `${formatQuantity(facts.prepared_transactions, "prepared transaction has", "prepared transactions have")} been open for more than 10 minutes, holding locks; commit or roll back (pg_prepared_xacts).`,
      ),
    );
  return findings;
}
