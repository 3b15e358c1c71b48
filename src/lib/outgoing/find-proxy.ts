import type { HttpProxy, ProxyRoute } from "../http-client/proxy.ts";
import { parseUserinfo } from "../userinfo.ts";
import { createNoProxyMatcher } from "./no-proxy.ts";

/** Returns the proxy for requests to a URL, or null if none is needed. */
export type FindProxy = (url: URL) => ProxyRoute | null;

export const noProxy: FindProxy = () => null;

export type ProxyAddresses = {
  /** The URL of the proxy for https URLs, valid according to `isProxyUrl`. */
  HTTPS_PROXY?: string | undefined;
  /** The URL of the proxy for http URLs, valid according to `isProxyUrl`. */
  HTTP_PROXY?: string | undefined;
  NO_PROXY?: readonly string[];
};

const DEFAULT_PORT = 80;

/** Whether a string is a valid proxy URL: `http://` without a path. TLS to the proxy isn't supported. */
export function isProxyUrl(text: string): boolean {
  if (!/^http:\/\/[^\s?#]+$/i.test(text) || !URL.canParse(text)) return false;
  const { pathname, hostname, port } = new URL(text);
  return pathname === "/" && hostname !== "" && port !== "0";
}

export function createProxyFinder({ HTTPS_PROXY, HTTP_PROXY, NO_PROXY = [] }: ProxyAddresses): FindProxy {
  const httpsProxy = HTTPS_PROXY === undefined ? null : parseProxy("HTTPS_PROXY", HTTPS_PROXY);
  const httpProxy = HTTP_PROXY === undefined ? null : parseProxy("HTTP_PROXY", HTTP_PROXY);
  if (httpsProxy === null && httpProxy === null) return noProxy;
  const isDirect = createNoProxyMatcher(NO_PROXY);
  return (url) => {
    const isTunnel = url.protocol === "https:";
    const proxy = isTunnel ? httpsProxy : httpProxy;
    return proxy === null || isDirect(url) ? null : { ...proxy, isTunnel };
  };
}

function parseProxy(setting: string, address: string): HttpProxy {
  const { hostname, port } = new URL(address);
  return {
    hostname: hostname.replace(/^\[(.*)\]$/, "$1"),
    port: Number(port) || DEFAULT_PORT,
    authorization: parseUserinfo(address)?.authorization ?? null,
    setting,
  };
}
