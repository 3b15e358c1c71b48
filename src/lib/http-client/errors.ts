/** No connection could be opened, so no part of the request was sent. */
export class ConnectError extends Error {
  readonly code: string | undefined;

  constructor(error: Error) {
    const code = "code" in error && typeof error.code === "string" ? error.code : undefined;
    // The runtime's message doesn't always contain the code.
    super(code === undefined || error.message.includes(code) ? error.message : `${error.message} (${code})`, {
      cause: error,
    });
    this.code = code;
  }
}

/**
 * The proxy rejected the connection or couldn't be reached. The message is for the administrator and contains no credentials.
 */
export class ProxyError extends ConnectError {
  /** The status of the proxy's response, or null if there was none. */
  readonly status: number | null;

  constructor(message: string, { status = null, cause }: { status?: number | null; cause?: Error } = {}) {
    super(new Error(message, { cause }));
    this.status = status;
  }
}

/** The server's certificate isn't trusted, so no part of the request was sent. */
export class CertificateError extends Error {}

/** Matches the error codes for a certificate of an unknown CA. */
const unknownIssuerPattern = /^(?:UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_)/;

export function createCertificateError(error: (Error & { code?: string }) | null): CertificateError {
  const remedy = unknownIssuerPattern.test(error?.code ?? "")
    ? "; if its CA is private, set NODE_EXTRA_CA_CERTS to a file with that CA's certificate"
    : "";
  return new CertificateError(`the certificate is not trusted: ${error?.message ?? "unknown reason"}${remedy}`);
}
