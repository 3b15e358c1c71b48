/** No connection was opened, so nothing of a request has been sent. */
export class ConnectError extends Error {
  readonly code: string | undefined;

  constructor(error: Error) {
    const code = "code" in error && typeof error.code === "string" ? error.code : undefined;
    // The runtime says of a refused connection only that it failed.
    super(code === undefined || error.message.includes(code) ? error.message : `${error.message} (${code})`, {
      cause: error,
    });
    this.code = code;
  }
}

/**
 * The proxy opened no connection, or could not be reached itself. The message is for the administrator: it names the proxy
 * and its setting, without a credential.
 */
export class ProxyError extends ConnectError {
  /** What the proxy answered; null if it didn't. */
  readonly status: number | null;

  constructor(message: string, { status = null, cause }: { status?: number | null; cause?: Error } = {}) {
    super(new Error(message, { cause }));
    this.status = status;
  }
}

/** The server answered, and could not show that it is the one that was meant. Nothing of a request has been sent. */
export class CertificateError extends Error {}

/** Of a certificate that no CA known here has signed. */
const unknownIssuer = /^(?:UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_)/;

export function createCertificateError(error: (Error & { code?: string }) | null): CertificateError {
  const cure = unknownIssuer.test(error?.code ?? "")
    ? "; if its CA is private, name a file with that CA's certificate in NODE_EXTRA_CA_CERTS"
    : "";
  return new CertificateError(`the certificate is not trusted: ${error?.message ?? "unknown reason"}${cure}`);
}
