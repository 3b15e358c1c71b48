import { listProviders, type PartialSettings, type ProviderConfig } from "../../config/list-providers.ts";
import { explainLoopback } from "../../lib/container.ts";
import { listHeaderSecrets } from "../../lib/header-fields.ts";
import type { ExplainFailure } from "../run-context.ts";

const defaultUrls: Record<string, string> = {
  openai: "https://api.openai.com/v1",
  anthropic: "https://api.anthropic.com",
};

const unreachablePattern =
  /ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|getaddrinfo|unable to connect|connection refused/i;

const proxyErrorPattern = /\bthe proxy \S+:\d+ /;

/**
 * Returns a function that explains which setting causes a permanent failure. The explanation is only for the log, because
 * users don't see settings.
 */
export function createFailureExplainer(config: PartialSettings): ExplainFailure {
  const providers = new Map(listProviders(config).map((provider) => [provider.name, provider]));
  return (model, { code, status, retryable, cause }) => {
    const slash = model.indexOf("/");
    const provider = providers.get(model.slice(0, slash));
    if (!provider) return null;
    const { baseUrl: url, settings } = provider;
    const address = parseUrl(url ?? defaultUrls[provider.name] ?? "");
    const { host, hostname } = address;
    const name = model.slice(slash + 1);
    const credential = findCredential(provider);
    if (code === "provider_unauthorized") {
      const statusNote = status === null ? "" : ` (HTTP ${status})`;
      if (credential === null) return `${host} requires a key${statusNote}: set ${settings.apiKey}`;
      return `${credential} was rejected by ${host}${statusNote}: check it, and that it may use ${name}`;
    }
    if (status === 404) return explainNotFound(provider, address, name);
    if (code === "provider_rate_limited" && !retryable)
      return `the account of ${credential ?? name} at ${host} has no credit left: check its billing`;
    // The message of a proxy error already mentions its setting.
    if (proxyErrorPattern.test(cause)) return null;
    if (status === null && url !== undefined && unreachablePattern.test(cause))
      return `${host} cannot be reached from here: check ${settings.urlDescription}, and that the server is running.${explainLoopback(hostname)}`;
    return null;
  };
}

/** Returns the name of the setting with the credential, or null. A header takes precedence over a key. */
function findCredential({ apiKey, headers, settings }: ProviderConfig): string | null {
  if (headers.authorization !== undefined) return settings.headers;
  if (apiKey) return settings.apiKey;
  return listHeaderSecrets(headers).length > 0 ? settings.headers : null;
}

type Address = { host: string; hostname: string; pathname: string };

function explainNotFound(
  { name: provider, baseUrl, settings }: ProviderConfig,
  { host, pathname }: Address,
  name: string,
) {
  // Azure's version is in the query.
  const hasVersion = /\/v\d+\w*(?:\/|$)|\/deployments\//.test(pathname);
  const isAnthropic = provider === "anthropic";
  if (baseUrl !== undefined && isAnthropic && hasVersion)
    return `${host} responded with 404: leave /v1 out of ${settings.urlDescription}, because Parley adds it`;
  if (baseUrl !== undefined && !isAnthropic && !hasVersion)
    return `${host} responded with 404: ${settings.urlDescription} has no /v1 at its end, which most servers require`;
  return `${host} has no model ${name} (404): check its name in AI_MODELS${baseUrl === undefined ? "" : `, and ${settings.urlDescription}`}`;
}

/** Parses a URL into its parts, without `user:password@`. */
function parseUrl(url: string): Address {
  if (!URL.canParse(url)) return { host: "the provider", hostname: "", pathname: "" };
  const { host, hostname, pathname } = new URL(url);
  return { host, hostname, pathname };
}
