import { ProxyError } from "./errors.ts";

/** An HTTP proxy, by which a server is reached. */
export type HttpProxy = {
  hostname: string;
  port: number;
  /** Value of `Proxy-Authorization`; null without credentials. */
  authorization: string | null;
  /** The setting that names it, for sentences. */
  setting: string;
};

/** How a request goes through a proxy. */
export type ProxyRoute = HttpProxy & {
  /**
   * Whether the proxy opens a connection of ours to the server (CONNECT), as it must for TLS; else it is asked itself, with
   * the whole URL, and asks the server in turn.
   */
  isTunnel: boolean;
};

/** Status of a proxy that asks for credentials, or refuses them. No server sends it. */
export const PROXY_AUTHENTICATION_REQUIRED = 407;

/** The field that brings the credentials along, as a line of a head. */
export const encodeCredentials = ({ authorization }: HttpProxy): string =>
  authorization === null ? "" : `proxy-authorization: ${authorization}\r\n`;

/** @param authority host and port of the server. */
export const encodeConnect = (proxy: HttpProxy, authority: string): Uint8Array =>
  Buffer.from(`CONNECT ${authority} HTTP/1.1\r\nhost: ${authority}\r\n${encodeCredentials(proxy)}\r\n`, "latin1");

/** Its host and port. */
export const nameProxy = ({ hostname, port }: HttpProxy): string =>
  `${hostname.includes(":") ? `[${hostname}]` : hostname}:${port}`;

/** The proxy answered, and not with a connection. */
export function createProxyRefusal(proxy: HttpProxy, authority: string, status: number): ProxyError {
  const name = nameProxy(proxy);
  if (status !== PROXY_AUTHENTICATION_REQUIRED)
    return new ProxyError(
      `the proxy ${name} opened no connection to ${authority} (HTTP ${status}): allow it there, or add the host to NO_PROXY`,
      { status },
    );
  const what =
    proxy.authorization === null
      ? `asks for credentials (HTTP 407): add user:password@ to ${proxy.setting}`
      : `refuses the credentials (HTTP 407): correct user and password in ${proxy.setting}`;
  return new ProxyError(`the proxy ${name} ${what}`, { status });
}

/** The proxy did not answer. */
export function createProxyFailure(proxy: HttpProxy, error: Error): ProxyError {
  const reason = error.message.replace(/[.?]$/, "");
  return new ProxyError(`the proxy ${nameProxy(proxy)} can't be used (${reason}): check ${proxy.setting}`, {
    cause: error,
  });
}
