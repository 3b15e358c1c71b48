import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";

/** A certificate chain and its private key, both in PEM format. */
export type Tls = { cert: string; key: string };

/** Properties of a certificate that are logged. */
export type CertificateSummary = { names: string; validFromMs: number; expiresAtMs: number };

const certificateBlock = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;
const encryptedKey = /-----BEGIN ENCRYPTED PRIVATE KEY-----|Proc-Type: 4,ENCRYPTED/;

/** Finds problems with a certificate chain and its key. Each message says how to fix the problem. */
export function findTlsProblems({ cert, key }: Tls): string[] {
  const problems: string[] = [];
  const chain = parseChain(cert);
  if (chain === null || chain.length === 0)
    problems.push("TLS_CERT_FILE: the file contains no readable certificate; PEM is expected.");
  if (encryptedKey.test(key)) {
    problems.push(
      "TLS_KEY_FILE: the key is encrypted; use one without a passphrase (openssl pkey -in KEY -out PLAIN).",
    );
    return problems;
  }
  const privateKey = parseKey(key);
  if (privateKey === null) problems.push("TLS_KEY_FILE: the file contains no readable private key; PEM is expected.");
  const [serverCertificate, ...otherCertificates] = chain ?? [];
  if (privateKey === null || serverCertificate === undefined || serverCertificate.checkPrivateKey(privateKey))
    return problems;
  if (otherCertificates.some((certificate) => certificate.checkPrivateKey(privateKey)))
    problems.push("TLS_CERT_FILE: the server's own certificate must come first, followed by those of its issuers.");
  else
    problems.push(
      "TLS_CERT_FILE and TLS_KEY_FILE: the key does not belong to the certificate; set both to a matching pair.",
    );
  return problems;
}

/** Returns the names and validity of the server's own certificate, which is the first one in the chain. The chain must be valid. */
export function describeCertificate(cert: string): CertificateSummary {
  const [serverCertificate] = parseChain(cert) ?? [];
  if (!serverCertificate) throw new Error("The certificate chain is empty.");
  return {
    names: serverCertificate.subjectAltName ?? serverCertificate.subject,
    validFromMs: Date.parse(serverCertificate.validFrom),
    expiresAtMs: Date.parse(serverCertificate.validTo),
  };
}

/** Parses a certificate chain. Returns null if one of the blocks isn't a certificate. */
function parseChain(pem: string): X509Certificate[] | null {
  try {
    return (pem.match(certificateBlock) ?? []).map((block) => new X509Certificate(block));
  } catch {
    return null;
  }
}

function parseKey(pem: string): KeyObject | null {
  try {
    return createPrivateKey(pem);
  } catch {
    return null;
  }
}
