import { explainLoopback } from "../../lib/container.ts";
import type { ExplainFailure } from "../about-run.ts";
import type { AiConfig } from "./create-providers.ts";

type Settings = { key: keyof AiConfig & string; baseUrl: keyof AiConfig & string; defaultUrl: string };

const settingsOf: Record<string, Settings> = {
  openai: { key: "OPENAI_API_KEY", baseUrl: "OPENAI_BASE_URL", defaultUrl: "https://api.openai.com/v1" },
  anthropic: { key: "ANTHROPIC_API_KEY", baseUrl: "ANTHROPIC_BASE_URL", defaultUrl: "https://api.anthropic.com" },
  compatible: { key: "COMPATIBLE_API_KEY", baseUrl: "COMPATIBLE_BASE_URL", defaultUrl: "" },
};

const unreachable =
  /ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|getaddrinfo|unable to connect|connection refused/i;

/** Names the setting behind a failure that does not pass by itself. For the log: users may not see settings. */
export function createExplainFailure(config: AiConfig): ExplainFailure {
  return (model, { code, status, retryable, cause }) => {
    const slash = model.indexOf("/");
    const settings = settingsOf[model.slice(0, slash)];
    if (!settings) return null;
    const { key, baseUrl } = settings;
    const url = config[baseUrl] as string | undefined;
    const { host, hostname, pathname } = readAddress(url ?? settings.defaultUrl);
    const name = model.slice(slash + 1);
    if (code === "provider_unauthorized") {
      const answer = status === null ? "" : ` (HTTP ${status})`;
      if (!config[key]) return `${host} wants a key${answer}: set ${key}`;
      return `${key} was refused by ${host}${answer}: check it, and that it may use ${name}`;
    }
    if (status === 404) return explainNotFound(settings, { url, host, pathname, name });
    if (code === "provider_rate_limited" && !retryable)
      return `the account of ${key} at ${host} has no credit left: check its billing`;
    if (status === null && url !== undefined && unreachable.test(cause))
      return `${host} cannot be reached from here: check ${baseUrl}, and that the server runs.${explainLoopback(hostname)}`;
    return null;
  };
}

type Asked = { url: string | undefined; host: string; pathname: string; name: string };

function explainNotFound({ baseUrl }: Settings, { url, host, pathname, name }: Asked): string {
  const hasVersion = /\/v\d+\w*(?:\/|$)/.test(pathname);
  const isAnthropic = baseUrl === "ANTHROPIC_BASE_URL";
  if (url !== undefined && isAnthropic && hasVersion)
    return `${host} answered 404: leave /v1 out of ${baseUrl}, which is added to it`;
  if (url !== undefined && !isAnthropic && !hasVersion)
    return `${host} answered 404: ${baseUrl} has no /v1 at its end, which most servers want`;
  return `${host} has no model ${name} (404): check its name in AI_MODELS${url === undefined ? "" : `, and ${baseUrl}`}`;
}

/** Without `user:password@`. */
function readAddress(url: string): { host: string; hostname: string; pathname: string } {
  if (!URL.canParse(url)) return { host: "the provider", hostname: "", pathname: "" };
  const { host, hostname, pathname } = new URL(url);
  return { host, hostname, pathname };
}
