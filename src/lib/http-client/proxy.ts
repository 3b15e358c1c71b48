import { ProxyError } from "./errors.ts";

export type HttpProxy = {
  hostname: string;
  port: number;
  /** The value of `Proxy-Authorization`, or null if the proxy needs no credentials. */
  authorization: string | null;
  /** The setting that configures the proxy, for messages. */
  setting: string;
};

/** A proxy, and how a request uses it. */
export type ProxyRoute = HttpProxy & {
  /**
   * Whether the proxy opens a tunnel to the server (CONNECT), which TLS requires. Otherwise, it receives the request with the
   * full URL and forwards it.
   */
  isTunnel: boolean;
};

/** The status with which a proxy requires or rejects credentials. */
export const PROXY_AUTHENTICATION_REQUIRED = 407;

/** Returns the header line with the credentials. */
export const encodeCredentials = ({ authorization }: HttpProxy): string =>
  authorization === null ? "" : `proxy-authorization: ${authorization}\r\n`;

/** Encodes the CONNECT request. @param authority host and port of the server. */
export const encodeConnect = (proxy: HttpProxy, authority: string): Uint8Array =>
  Buffer.from(`CONNECT ${authority} HTTP/1.1\r\nhost: ${authority}\r\n${encodeCredentials(proxy)}\r\n`, "latin1");

/** Formats host and port of the proxy. */
export const formatProxy = ({ hostname, port }: HttpProxy): string =>
  `${hostname.includes(":") ? `[${hostname}]` : hostname}:${port}`;

/** Creates the error for a proxy that rejects the connection. */
export function createProxyRejection(proxy: HttpProxy, authority: string, status: number): ProxyError {
  const name = formatProxy(proxy);
  if (status !== PROXY_AUTHENTICATION_REQUIRED)
    return new ProxyError(
      `the proxy ${name} refused to connect to ${authority} (HTTP ${status}): allow the host in the proxy, or add it to NO_PROXY`,
      { status },
    );
  const problem =
    proxy.authorization === null
      ? `requires credentials (HTTP 407): add user:password@ to ${proxy.setting}`
      : `rejects the credentials (HTTP 407): correct the user and password in ${proxy.setting}`;
  return new ProxyError(`the proxy ${name} ${problem}`, { status });
}

/** Creates the error for a proxy that can't be reached or doesn't work. */
export function createProxyFailure(proxy: HttpProxy, error: Error): ProxyError {
  const reason = error.message.replace(/[.?]$/, "");
  return new ProxyError(`the proxy ${formatProxy(proxy)} can't be used (${reason}): check ${proxy.setting}`, {
    cause: error,
  });
}
