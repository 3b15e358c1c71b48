import { X509Certificate } from "node:crypto";
import { FormatRegistry, Type } from "@sinclair/typebox";
import { isProxyUrl } from "../lib/outgoing/find-proxy.ts";
import { isNoProxyEntry } from "../lib/outgoing/no-proxy.ts";

FormatRegistry.Set("proxy-url", isProxyUrl);
FormatRegistry.Set("no-proxy", isNoProxyEntry);

const proxySetting = (example: string, description: string) =>
  Type.Optional(
    Type.String({
      format: "proxy-url",
      secret: true,
      isUrl: true,
      isSystemWide: true,
      example,
      description,
    }),
  );

/** Settings of outgoing connections; see docs/network.md. */
export const networkSettings = {
  HTTPS_PROXY: proxySetting(
    "http://user:password@proxy.example.com:3128",
    "HTTP proxy for https URLs: models, webhooks, OIDC, MCP servers, S3, `parley upgrade`. Also read from `https_proxy`. If " +
      "unset, Parley connects directly.",
  ),
  HTTP_PROXY: proxySetting("http://proxy.example.com:3128", "HTTP proxy for http URLs. Also read from `http_proxy`."),
  NO_PROXY: Type.Array(Type.String({ format: "no-proxy" }), {
    isSystemWide: true,
    default: [],
    example: "internal.example.com,10.0.0.0/8",
    description:
      "Hosts to connect to without a proxy, comma-separated: names (including subdomains), IP addresses and networks. Names and " +
      "addresses may have a `:port`. `*` means all hosts. This machine is always included. Also read from `no_proxy`.",
  }),
  NODE_EXTRA_CA_CERTS: Type.Optional(
    Type.String({
      minLength: 1,
      example: "/etc/parley/company-ca.pem",
      description:
        "File with certificates (PEM) of private CAs. Parley trusts them, in addition to the public CAs, for all its TLS " +
        "connections. The file is read at startup. The setting is not allowed in `.env`.",
    }),
  ),
};

/** Explains why a file of CA certificates is invalid; returns null if it is valid. The message follows the setting's name. */
export function findCertificatesProblem(path: string, readFile: (path: string) => string): string | null {
  let text: string;
  try {
    text = readFile(path);
  } catch {
    return `the file ${path} can't be read; use an existing file that Parley's user can read.`;
  }
  const blocks =
    text.match(/-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----[\s\S]*?(?:-----END [A-Z0-9 ]+-----|$)/g) ?? [];
  if (blocks.length === 0)
    return `the file ${path} contains no certificate; write certificates as PEM (-----BEGIN CERTIFICATE-----), one after the other.`;
  const invalidIndex = blocks.findIndex((block) => !isCertificate(block));
  return invalidIndex < 0
    ? null
    : `certificate ${invalidIndex + 1} of the file ${path} is damaged; download it again, as PEM.`;
}

function isCertificate(pem: string): boolean {
  try {
    new X509Certificate(pem);
    return true;
  } catch {
    return false;
  }
}

type Proxies = { HTTPS_PROXY?: string | undefined; HTTP_PROXY?: string | undefined; NO_PROXY: readonly string[] };

/** Finds proxy settings that are probably mistakes. */
export function findProxyWarnings({ HTTPS_PROXY, HTTP_PROXY, NO_PROXY }: Proxies): string[] {
  if (HTTP_PROXY !== undefined && HTTPS_PROXY === undefined)
    return [
      "HTTP_PROXY is set, but HTTPS_PROXY is not, so https URLs are reached without a proxy; set HTTPS_PROXY too.",
    ];
  if (NO_PROXY.includes("*") && HTTPS_PROXY !== undefined)
    return ["NO_PROXY has `*`, so HTTPS_PROXY and HTTP_PROXY have no effect; remove them, or the `*`."];
  return [];
}

/** Explains why a proxy's URL is invalid. Doesn't show the URL, because it may contain a password. */
export function explainProxy(value: string): string {
  const hint = "write it as http://proxy.example.com:3128";
  const [, scheme = ""] = /^([a-z][a-z0-9+.-]*):\/\//i.exec(value) ?? [];
  if (/^socks/i.test(scheme))
    return `the value begins with ${scheme.toLowerCase()}://, but SOCKS proxies are not supported; use an HTTP proxy, for example http://proxy.example.com:3128.`;
  if (/^https$/i.test(scheme))
    return `the value begins with https://, but TLS to the proxy itself is not supported; ${hint} (traffic to https URLs is still encrypted).`;
  if (scheme !== "" && !/^http$/i.test(scheme)) return `the value does not begin with http://; ${hint}.`;
  if (/\s/.test(value)) return `the value contains a space; remove it, or write it as %20.`;
  if (!URL.canParse(value))
    return `the value is not a URL; ${hint}, and percent-encode special characters in the password.`;
  return `the value contains more than a user, password, host and port; ${hint}.`;
}

/** Explains why an entry of NO_PROXY is invalid. */
export function explainNoProxy(value: string, quotedValue: string): string {
  const problem = `${quotedValue} is not a host name, an IP address or a network`;
  if (/:\/\//.test(value)) return `${problem}; write only the host.`;
  const [, networkPrefix = ""] = /^((?:\d{1,3}\.){1,3})\*$/.exec(value) ?? [];
  if (networkPrefix !== "") {
    const octets = networkPrefix.split(".").slice(0, -1);
    return `${problem}; write ${[...octets, "0", "0", "0"].slice(0, 4).join(".")}/${octets.length * 8}.`;
  }
  return `${problem}; write it as internal.example.com, .example.com, 10.1.2.3, 10.0.0.0/8 or *.`;
}
