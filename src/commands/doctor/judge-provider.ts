import type { ProviderConfig } from "../../config/list-providers.ts";
import { type Finding, problem, warning } from "./finding.ts";

/** What a failed request for the list of models means; null for a success. */
export function explainStatus(named: string, status: number, settings: ProviderConfig["settings"]): Finding | null {
  if (status >= 200 && status < 300) return null;
  const responded = `${named} responded with ${status}`;
  if (status === 401) return problem(`${responded}: it does not accept the key; correct ${settings.apiKey}.`);
  if (status === 403)
    return problem(
      `${responded}: the key lacks a permission, or the country or network is blocked; check the key's project and permissions, or set another ${settings.apiKey}.`,
    );
  if (status === 404 || status === 405)
    return warning(
      `${responded}: it has no list of models, so the key can't be checked; check ${settings.address}, which must be the part of the URL before /models.`,
    );
  if (status === 407) return problem(`${responded}: a proxy requires a login; add user and password to HTTPS_PROXY.`);
  if (status === 429)
    return warning(`${responded}: too many requests, or the account has no credit left; check its limits and balance.`);
  if (status >= 300 && status < 400)
    return problem(`${responded}, a redirect, which is not followed; set ${settings.address} to the final address.`);
  if (status >= 500) return problem(`${responded}: the server has a failure; see its status page, and try again.`);
  return problem(`${responded}; check ${settings.address} and ${settings.apiKey}.`);
}

/** The ids in a list of models; null if it isn't one. */
export function readModelIds(json: unknown): string[] | null {
  if (typeof json !== "object" || json === null) return null;
  // A few servers respond with the plain array.
  const list: unknown = Array.isArray(json) ? json : (json as { data?: unknown }).data;
  if (!Array.isArray(list)) return null;
  return list.flatMap((entry: unknown) => {
    const id = typeof entry === "object" && entry !== null ? (entry as { id?: unknown }).id : undefined;
    return typeof id === "string" ? [id] : [];
  });
}

/** The models that are not in the list. Servers accept names without a tag (Ollama) or a date (Anthropic). */
export function findUnlisted(models: readonly string[], ids: readonly string[]): string[] {
  const isListed = (model: string) =>
    ids.some((id) => id === model || id === `${model}:latest` || isDated(id, model) || id === `models/${model}`);
  return models.filter((model) => !isListed(model));
}

const isDated = (id: string, model: string): boolean =>
  id.startsWith(`${model}-`) && /^\d{8}$/.test(id.slice(model.length + 1));
