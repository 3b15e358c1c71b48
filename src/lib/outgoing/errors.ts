import { CertificateError, ConnectError, ProxyError } from "../http-client/errors.ts";
import { MalformedResponseError } from "../http-client/response-parser.ts";

/** The target may not be connected to. The message is for the user who set the URL; it says nothing about the network here. */
export class RefusedAddressError extends Error {}

/** The target did not answer as HTTP wants it. The message is for the user who set the URL. */
export class OutgoingError extends Error {}

/**
 * What happened to a request, in a sentence for the user who set its URL. Only addresses that may be called get here: what is
 * refused was not connected to, so that its ports all look alike.
 * @param target host and port, as the URL names them.
 */
export function mapToOutgoingError(error: unknown, target: string): Error {
  if (error instanceof OutgoingError || error instanceof RefusedAddressError) return error;
  // Of the proxy it says nothing: that is for the log.
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
  return new OutgoingError(`${target} closed the connection before it answered.`, { cause: error });
}
