import { listProviders, type ProviderConfig, type ProvidersConfig } from "../../config/list-providers.ts";
import { explainLoopback } from "../../lib/container.ts";
import { listHeaderSecrets } from "../../lib/header-fields.ts";
import type { ExplainFailure } from "../run-context.ts";

const defaultUrls: Record<string, string> = {
  openai: "https://api.openai.com/v1",
  anthropic: "https://api.anthropic.com",
};

const unreachable =
  /ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|getaddrinfo|unable to connect|connection refused/i;

const ofProxy = /\bthe proxy \S+:\d+ /;

/** Names the setting behind a permanent failure. For the log: users may not see settings. */
export function createExplainFailure(config: ProvidersConfig): ExplainFailure {
  const providers = new Map(listProviders(config).map((provider) => [provider.name, provider]));
  return (model, { code, status, retryable, cause }) => {
    const slash = model.indexOf("/");
    const provider = providers.get(model.slice(0, slash));
    if (!provider) return null;
    const { baseUrl: url, settings } = provider;
    const address = readAddress(url ?? defaultUrls[provider.name] ?? "");
    const { host, hostname } = address;
    const name = model.slice(slash + 1);
    const credential = findCredential(provider);
    if (code === "provider_unauthorized") {
      const answer = status === null ? "" : ` (HTTP ${status})`;
      if (credential === null) return `${host} requires a key${answer}: set ${settings.apiKey}`;
      return `${credential} was rejected by ${host}${answer}: check it, and that it may use ${name}`;
    }
    if (status === 404) return explainNotFound(provider, address, name);
    if (code === "provider_rate_limited" && !retryable)
      return `the account of ${credential ?? name} at ${host} has no credit left: check its billing`;
    // A proxy failure already names its setting.
    if (ofProxy.test(cause)) return null;
    if (status === null && url !== undefined && unreachable.test(cause))
      return `${host} cannot be reached from here: check ${settings.address}, and that the server runs.${explainLoopback(hostname)}`;
    return null;
  };
}

/** The setting that holds the credential; null: none. Header fields take precedence over a key. */
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
  // Azure puts its version into the query.
  const hasVersion = /\/v\d+\w*(?:\/|$)|\/deployments\//.test(pathname);
  const isAnthropic = provider === "anthropic";
  if (baseUrl !== undefined && isAnthropic && hasVersion)
    return `${host} answered 404: leave /v1 out of ${settings.address}, which is added to it`;
  if (baseUrl !== undefined && !isAnthropic && !hasVersion)
    return `${host} answered 404: ${settings.address} has no /v1 at its end, which most servers want`;
  return `${host} has no model ${name} (404): check its name in AI_MODELS${baseUrl === undefined ? "" : `, and ${settings.address}`}`;
}

/** The URL without `user:password@`. */
function readAddress(url: string): Address {
  if (!URL.canParse(url)) return { host: "the provider", hostname: "", pathname: "" };
  const { host, hostname, pathname } = new URL(url);
  return { host, hostname, pathname };
}
