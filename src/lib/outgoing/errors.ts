import { CertificateError, ConnectError, ProxyError } from "../http-client/errors.ts";
import { MalformedResponseError } from "../http-client/response-parser.ts";

/** The target must not be called. The message is for the user who set the URL, and doesn't reveal the internal network. */
export class RejectedAddressError extends Error {}

/** The target didn't send a valid HTTP response. The message is for the user who set the URL. */
export class OutgoingError extends Error {}

/**
 * Maps a request's error to an error for the user who set the URL. Its details can't be used to scan ports of the internal
 * network, because Parley connects only to allowed addresses.
 * @param target the URL's host and port.
 */
export function mapToOutgoingError(error: unknown, target: string): Error {
  if (error instanceof OutgoingError || error instanceof RejectedAddressError) return error;
  // Details about the proxy are only logged.
  if (error instanceof ProxyError) return new OutgoingError(`${target} could not be reached.`, { cause: error });
  if (error instanceof ConnectError)
    return new OutgoingError(
      error.code === "ECONNREFUSED" ? `${target} refused the connection.` : `${target} could not be reached.`,
      { cause: error },
    );
  if (error instanceof CertificateError)
    return new OutgoingError(`The TLS certificate of ${target} is not trusted.`, { cause: error });
  if (error instanceof MalformedResponseError)
    return new OutgoingError(`${target} sent a response that is not valid HTTP/1.1.`, { cause: error });
  return new OutgoingError(`${target} closed the connection without a response.`, { cause: error });
}
