import { existsSync, readFileSync } from "node:fs";
import { isIP } from "node:net";
import { join } from "node:path";
import { checkServerIdentity, type PeerCertificate } from "node:tls";
import { type DatabaseAddress, parseDatabaseUrl } from "../config/database-url.ts";
import { ConfigError } from "../config.ts";

const DEFAULT_PORT = 5432;
/** The usual socket directories: first that of Debian and other distributions, then Postgres's own default. */
const socketDirectories = ["/var/run/postgresql", "/tmp"];

/**
 * Parses DATABASE_URL.
 * @throws ConfigError, whose message doesn't contain the password.
 */
export function parseDatabaseAddress(url: string): DatabaseAddress {
  const parsed = parseDatabaseUrl(url);
  if ("problems" in parsed) throw new ConfigError(parsed.problems);
  return parsed.address;
}

/** Maps an address to driver options. The URL isn't passed to the driver, because it parses some parts of URLs differently from libpq. */
export function mapAddressToOptions(address: DatabaseAddress) {
  const { user, password, database, connectTimeoutS, targetSessionAttrs } = address;
  return {
    ...mapServerOptions(address),
    ...(user && { user }),
    ...(password && { password }),
    ...(database && { database }),
    ...(connectTimeoutS && { connect_timeout: connectTimeoutS }),
    ...(targetSessionAttrs && { target_session_attrs: targetSessionAttrs as "read-write" }),
  };
}

function mapServerOptions(address: DatabaseAddress) {
  const { host, port } = address;
  if (host === undefined) {
    const name = `.s.PGSQL.${port ?? DEFAULT_PORT}`;
    const directory =
      address.socketDirectory ?? socketDirectories.find((path) => existsSync(join(path, name))) ?? socketDirectories[0];
    // As in libpq, TLS is only used over TCP.
    return { path: join(directory ?? "", name), ssl: false };
  }
  const tls = { ssl: mapTlsOptions(address, host), ...(address.isTlsDirect && { sslnegotiation: "direct" as const }) };
  // The host is in an array, because the driver would otherwise mistake part of an IPv6 address for a port.
  if (isIP(host) === 6) return { host: [host], port: [port ?? DEFAULT_PORT], ...tls };
  return { host, ...(port && { port }), ...tls };
}

function mapTlsOptions({ sslmode, sslrootcert, sslcert, sslkey }: DatabaseAddress, host: string) {
  if (sslmode === "disable") return false;
  // Both modes also accept unencrypted connections.
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
