import { readFileSync } from "node:fs";
import { describeCertificate, findTlsProblems, type Tls } from "../config/tls.ts";
import { type Config, ConfigError } from "../config.ts";
import type { Log } from "../lib/log.ts";
import type { Metrics } from "../lib/metrics.ts";
import type { PortListener } from "./listen.ts";

/** Days before its end from which on a certificate is warned of. */
const EXPIRY_WARNING_DAYS = 14;
const DAY_MS = 24 * 60 * 60 * 1_000;

/**
 * The certificate to serve with; undefined when the configuration names none.
 * @throws ConfigError when it cannot be read, or not be served with.
 */
export function readTls({ TLS_CERT_FILE, TLS_KEY_FILE }: Config): Tls | undefined {
  if (!TLS_CERT_FILE || !TLS_KEY_FILE) return undefined;
  const tls = { cert: readPem("TLS_CERT_FILE", TLS_CERT_FILE), key: readPem("TLS_KEY_FILE", TLS_KEY_FILE) };
  const problems = findTlsProblems(tls);
  if (problems.length > 0) throw new ConfigError(problems);
  return tls;
}

function readPem(name: string, path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    throw new ConfigError([`${name}: the file ${path} cannot be read.`]);
  }
}

type Dependencies = { config: Config; listener: Pick<PortListener, "useTls">; log: Log; metrics: Metrics };

/** Reads the certificate again and serves with it. Is it not good, the log says why, and the old one stays. */
export function reloadTls({ config, listener, log, metrics }: Dependencies): void {
  try {
    const tls = readTls(config);
    if (!tls) {
      log.info("SIGHUP: there is no certificate to read again; other settings need a restart");
      return;
    }
    listener.useTls(tls);
    tellOfCertificate(tls, log, metrics);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    log.error({ reason }, "the new certificate cannot be used; the old one stays");
  }
}

/** Logs which certificate is served, and until when; one that browsers refuse is warned of, but served. */
export function tellOfCertificate({ cert }: Tls, log: Log, metrics: Metrics): void {
  const { names, validFromMs, expiresAtMs } = describeCertificate(cert);
  metrics.tlsCertificateExpiry.set(expiresAtMs / 1_000);
  const line = { names, expires_at: new Date(expiresAtMs).toISOString() };
  if (expiresAtMs <= Date.now()) log.warn(line, "the certificate has expired; clients will refuse it");
  else if (validFromMs > Date.now()) log.warn(line, "the certificate is not valid yet; clients will refuse it");
  else if (expiresAtMs - Date.now() < EXPIRY_WARNING_DAYS * DAY_MS) log.warn(line, "the certificate expires soon");
  else log.info(line, "serving with this certificate");
}
