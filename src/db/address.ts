import { existsSync, readFileSync } from "node:fs";
import { isIP } from "node:net";
import { join } from "node:path";
import { checkServerIdentity, type PeerCertificate } from "node:tls";
import { type DatabaseAddress, parseDatabaseUrl } from "../config/database-url.ts";
import { ConfigError } from "../config.ts";

const PORT = 5432;
/** The usual socket directories: the one of Debian and other distributions, then Postgres's own default. */
const socketDirectories = ["/var/run/postgresql", "/tmp"];

/**
 * Parses DATABASE_URL.
 * @throws ConfigError, whose message doesn't contain the password.
 */
export function readDatabaseAddress(url: string): DatabaseAddress {
  const parsed = parseDatabaseUrl(url);
  if ("problems" in parsed) throw new ConfigError(parsed.problems);
  return parsed.address;
}

/** Maps an address to options for the driver. The driver never gets the URL, because it parses some parts differently from libpq. */
export function mapAddressToOptions(address: DatabaseAddress) {
  const { user, password, database, connectTimeoutS, targetSessionAttrs } = address;
  return {
    ...mapToServer(address),
    ...(user && { user }),
    ...(password && { password }),
    ...(database && { database }),
    ...(connectTimeoutS && { connect_timeout: connectTimeoutS }),
    ...(targetSessionAttrs && { target_session_attrs: targetSessionAttrs as "read-write" }),
  };
}

function mapToServer(address: DatabaseAddress) {
  const { host, port } = address;
  if (host === undefined) {
    const name = `.s.PGSQL.${port ?? PORT}`;
    const directory =
      address.socketDirectory ?? socketDirectories.find((path) => existsSync(join(path, name))) ?? socketDirectories[0];
    // As in libpq, TLS is only used over TCP.
    return { path: join(directory ?? "", name), ssl: false };
  }
  const tls = { ssl: mapToTls(address, host), ...(address.isTlsDirect && { sslnegotiation: "direct" as const }) };
  // The host is given as a list, because the driver would mistake the colons of an IPv6 address for a port.
  if (isIP(host) === 6) return { host: [host], port: [port ?? PORT], ...tls };
  return { host, ...(port && { port }), ...tls };
}

function mapToTls({ sslmode, sslrootcert, sslcert, sslkey }: DatabaseAddress, host: string) {
  if (sslmode === "disable") return false;
  // Both modes also accept an unencrypted connection.
  if (sslmode === "allow" || sslmode === "prefer") return "prefer";
  const client = sslcert && sslkey ? { cert: readFileSync(sslcert), key: readFileSync(sslkey) } : {};
  if (sslmode === "require" && sslrootcert === undefined) return { ...client, rejectUnauthorized: false };
  const roots = sslrootcert === undefined || sslrootcert === "system" ? {} : { ca: readFileSync(sslrootcert) };
  // In libpq, `require` with a root certificate means `verify-ca`.
  const checkIdentity =
    sslmode === "verify-full"
      ? (_name: string, certificate: PeerCertificate) => checkServerIdentity(host, certificate)
      : () => undefined;
  return { ...client, ...roots, rejectUnauthorized: true, checkServerIdentity: checkIdentity };
}
