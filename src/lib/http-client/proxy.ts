import { ProxyError } from "./errors.ts";

export type HttpProxy = {
  hostname: string;
  port: number;
  /** Value of `Proxy-Authorization`; null without credentials. */
  authorization: string | null;
  /** The setting that configures it, for messages. */
  setting: string;
};

/** How a request uses a proxy. */
export type ProxyRoute = HttpProxy & {
  /**
   * Whether the proxy opens a tunnel to the server (CONNECT), as TLS requires. Otherwise it receives the request with the
   * full URL, and forwards it.
   */
  isTunnel: boolean;
};

/** Status of a proxy that requires credentials, or refuses them. Servers don't send it. */
export const PROXY_AUTHENTICATION_REQUIRED = 407;

/** The header line with the credentials. */
export const encodeCredentials = ({ authorization }: HttpProxy): string =>
  authorization === null ? "" : `proxy-authorization: ${authorization}\r\n`;

/** @param authority host and port of the server. */
export const encodeConnect = (proxy: HttpProxy, authority: string): Uint8Array =>
  Buffer.from(`CONNECT ${authority} HTTP/1.1\r\nhost: ${authority}\r\n${encodeCredentials(proxy)}\r\n`, "latin1");

/** Host and port of the proxy. */
export const nameProxy = ({ hostname, port }: HttpProxy): string =>
  `${hostname.includes(":") ? `[${hostname}]` : hostname}:${port}`;

/** The error for a proxy's response that refuses the connection. */
export function createProxyRefusal(proxy: HttpProxy, authority: string, status: number): ProxyError {
  const name = nameProxy(proxy);
  if (status !== PROXY_AUTHENTICATION_REQUIRED)
    return new ProxyError(
      `the proxy ${name} refused to connect to ${authority} (HTTP ${status}): allow the host in the proxy, or add it to NO_PROXY`,
      { status },
    );
  const what =
    proxy.authorization === null
      ? `requires credentials (HTTP 407): add user:password@ to ${proxy.setting}`
      : `refuses the credentials (HTTP 407): correct user and password in ${proxy.setting}`;
  return new ProxyError(`the proxy ${name} ${what}`, { status });
}

/** The error for a proxy that did not respond. */
export function createProxyFailure(proxy: HttpProxy, error: Error): ProxyError {
  const reason = error.message.replace(/[.?]$/, "");
  return new ProxyError(`the proxy ${nameProxy(proxy)} can't be used (${reason}): check ${proxy.setting}`, {
    cause: error,
  });
}
