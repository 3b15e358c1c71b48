import { readFileSync } from "node:fs";
import { describeCertificate, findTlsProblems, type Tls } from "../config/tls.ts";
import { type Config, ConfigError } from "../config.ts";
import type { Log } from "../lib/log.ts";
import type { Metrics } from "../lib/metrics.ts";
import type { PortListener } from "./listen.ts";

/** A certificate that expires in fewer days than this causes a warning. */
export const EXPIRY_WARNING_DAYS = 14;
const DAY_MS = 24 * 60 * 60 * 1_000;

/**
 * Reads the certificate to serve and its key; returns undefined if none is configured.
 * @throws ConfigError if they can't be read or are invalid.
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
    throw new ConfigError([`${name}: the file ${path} can't be read.`]);
  }
}

type Dependencies = { config: Config; listener: Pick<PortListener, "useTls">; log: Log; metrics: Metrics };

/** Reloads the certificate. If the new certificate is invalid, the reason is logged, and the current certificate stays in use. */
export function reloadTls({ config, listener, log, metrics }: Dependencies): void {
  try {
    const tls = readTls(config);
    if (!tls) {
      log.info("SIGHUP: no certificate to reload; other settings need a restart");
      return;
    }
    listener.useTls(tls);
    logCertificate(tls, log, metrics);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    log.error({ reason }, "the new certificate can't be used; keeping the current one");
  }
}

/** Logs the current certificate and its expiry date. An expired certificate causes a warning, but stays in use. */
export function logCertificate({ cert }: Tls, log: Log, metrics: Metrics): void {
  const { names, validFromMs, expiresAtMs } = describeCertificate(cert);
  metrics.tlsCertificateExpiry.set(expiresAtMs / 1_000);
  const fields = { names, expires_at: new Date(expiresAtMs).toISOString() };
  if (expiresAtMs <= Date.now()) log.warn(fields, "the certificate has expired; clients will reject it");
  else if (validFromMs > Date.now()) log.warn(fields, "the certificate is not valid yet; clients will reject it");
  else if (expiresAtMs - Date.now() < EXPIRY_WARNING_DAYS * DAY_MS) log.warn(fields, "the certificate expires soon");
  else log.info(fields, "serving this certificate");
}
