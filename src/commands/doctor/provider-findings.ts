import type { ProviderConfig } from "../../config/list-providers.ts";
import { type Finding, problem, warning } from "./finding.ts";

/** Explains the status of a failed request for the list of models. Returns null if the request succeeded. */
export function explainErrorStatus(
  label: string,
  status: number,
  settings: ProviderConfig["settings"],
): Finding | null {
  if (status >= 200 && status < 300) return null;
  const responded = `${label} responded with ${status}`;
  if (status === 401) return problem(`${responded}: it doesn't accept the key; correct ${settings.apiKey}.`);
  if (status === 403)
    return problem(
      `${responded}: the key lacks a permission, or your country or network is blocked; check the key's project and permissions, or set a different ${settings.apiKey}.`,
    );
  if (status === 404 || status === 405)
    return warning(
      `${responded}: it has no list of models, so the key can't be checked; check ${settings.urlDescription}, which must be the part of the URL before /models.`,
    );
  if (status === 407)
    return problem(`${responded}: a proxy requires a login; add a username and password to HTTPS_PROXY.`);
  if (status === 429)
    return warning(`${responded}: too many requests, or the account has no credit left; check its limits and balance.`);
  if (status >= 300 && status < 400)
    return problem(
      `${responded}, a redirect, which Parley doesn't follow; set ${settings.urlDescription} to the final URL.`,
    );
  if (status >= 500) return problem(`${responded}: the server failed; see its status page, and try again.`);
  return problem(`${responded}; check ${settings.urlDescription} and ${settings.apiKey}.`);
}

/** Returns the ids in a list of models; null if `json` isn't such a list. */
export function parseModelIds(json: unknown): string[] | null {
  if (typeof json !== "object" || json === null) return null;
  // A few servers respond with a plain array.
  const list: unknown = Array.isArray(json) ? json : (json as { data?: unknown }).data;
  if (!Array.isArray(list)) return null;
  return list.flatMap((entry: unknown) => {
    const id = typeof entry === "object" && entry !== null ? (entry as { id?: unknown }).id : undefined;
    return typeof id === "string" ? [id] : [];
  });
}

/** Returns the models that are not in the list. Names match without their tag (Ollama) or date (Anthropic). */
export function findUnlistedModels(models: readonly string[], ids: readonly string[]): string[] {
  const isListed = (model: string) =>
    ids.some((id) => id === model || id === `${model}:latest` || hasDateSuffix(id, model) || id === `models/${model}`);
  return models.filter((model) => !isListed(model));
}

const hasDateSuffix = (id: string, model: string): boolean =>
  id.startsWith(`${model}-`) && /^\d{8}$/.test(id.slice(model.length + 1));
