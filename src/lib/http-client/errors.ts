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
 * The proxy refused to connect, or could not be reached. The message is for the administrator: it names the proxy and its
 * setting, without credentials.
 */
export class ProxyError extends ConnectError {
  /** The status of the proxy's response; null if there was none. */
  readonly status: number | null;

  constructor(message: string, { status = null, cause }: { status?: number | null; cause?: Error } = {}) {
    super(new Error(message, { cause }));
    this.status = status;
  }
}

/** The server's certificate was not accepted. Nothing of the request has been sent. */
export class CertificateError extends Error {}

/** Errors of a certificate from an unknown CA. */
const unknownIssuer = /^(?:UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_)/;

export function createCertificateError(error: (Error & { code?: string }) | null): CertificateError {
  const remedy = unknownIssuer.test(error?.code ?? "")
    ? "; if its CA is private, set NODE_EXTRA_CA_CERTS to a file with that CA's certificate"
    : "";
  return new CertificateError(`the certificate is not trusted: ${error?.message ?? "unknown reason"}${remedy}`);
}
