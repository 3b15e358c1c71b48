import { X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import { describeCertificate } from "../../config/tls.ts";
import { EXPIRY_WARNING_DAYS, readTls } from "../tls.ts";
import type { DoctorCheck } from "./check.ts";
import { addOkIfNoFindings, type Finding, problem, skipped, warning } from "./finding.ts";

const DAY_MS = 24 * 60 * 60 * 1_000;

/** Checks the certificate that Parley itself serves. */
export const certificateCheck: DoctorCheck = {
  name: "certificate",
  run({ config }) {
    // Loading the configuration has already checked the files.
    const tls = readTls(config);
    if (!tls) return [skipped("TLS_CERT_FILE is not set, so Parley serves plain HTTP; a proxy may add TLS.")];
    const { names, expiresAtMs } = describeCertificate(tls.cert);
    const expiryDate = new Date(expiresAtMs).toISOString().slice(0, 10);
    return addOkIfNoFindings(
      checkCertificate(tls.cert, config.PUBLIC_URL, Date.now()),
      `${names}, valid until ${expiryDate}.`,
    );
  },
};

/** Finds reasons why clients that connect to `publicUrl` may refuse the certificate. */
function checkCertificate(cert: string, publicUrl: string | undefined, nowMs: number): Finding[] {
  const { names, validFromMs, expiresAtMs } = describeCertificate(cert);
  const findings: Finding[] = [];
  const remainingDays = Math.floor((expiresAtMs - nowMs) / DAY_MS);
  const remedy = "replace the files of TLS_CERT_FILE and TLS_KEY_FILE, then send SIGHUP to Parley";
  if (expiresAtMs <= nowMs)
    findings.push(
      problem(
        `The certificate expired on ${new Date(expiresAtMs).toISOString().slice(0, 10)}, so clients reject it; ${remedy}.`,
      ),
    );
  else if (validFromMs > nowMs)
    findings.push(
      problem(
        `The certificate is valid only from ${new Date(validFromMs).toISOString().slice(0, 10)}, so clients reject it; check the clock, or ${remedy}.`,
      ),
    );
  else if (remainingDays < EXPIRY_WARNING_DAYS)
    findings.push(warning(`The certificate expires in ${remainingDays} days; ${remedy}.`));
  const host = publicUrl === undefined ? undefined : new URL(publicUrl).hostname.replace(/^\[|\]$/g, "");
  const certificate = new X509Certificate(cert);
  const matches = (name: string) => (isIP(name) === 0 ? certificate.checkHost(name) : certificate.checkIP(name));
  if (host !== undefined && matches(host) === undefined)
    findings.push(
      warning(
        `The certificate is for ${names}, not for ${host} of PUBLIC_URL, so clients reject it; get one for that name, or correct PUBLIC_URL.`,
      ),
    );
  return findings;
}
