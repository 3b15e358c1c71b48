import { maskAddress } from "../lib/mask-address.ts";
import { readUserinfo } from "../lib/userinfo.ts";
import { listProviders, type ProviderConfig } from "./list-providers.ts";
import { builtInProviders, isProviderName, PROVIDERS_MAX, splitProvider } from "./providers.ts";
import type { Settings } from "./settings.ts";

/** Problems of combinations of provider and model settings; one sentence each, without a secret. */
export function findProviderProblems(config: Settings): string[] {
  return [
    ...findNameProblems(config.AI_PROVIDERS),
    ...findModelProblems(config),
    ...listProviders(config).flatMap((provider) => [
      ...findCredentialProblems(provider),
      ...findAddressProblems(provider),
    ]),
  ];
}

function findNameProblems(entries: readonly string[]): string[] {
  const names = entries.map((entry) => splitProvider(entry).name).filter(isProviderName);
  const repeated = new Set(names.filter((name, index) => names.indexOf(name) < index));
  const problems = [...repeated].map((name) => `AI_PROVIDERS: two servers are named ${name}; rename one of them.`);
  if (new Set(names).size > PROVIDERS_MAX)
    problems.push(`AI_PROVIDERS: it has more than ${PROVIDERS_MAX} servers; remove some.`);
  return problems;
}

const needs: Record<string, "OPENAI_API_KEY" | "ANTHROPIC_API_KEY" | "COMPATIBLE_BASE_URL"> = {
  openai: "OPENAI_API_KEY",
  anthropic: "ANTHROPIC_API_KEY",
  compatible: "COMPATIBLE_BASE_URL",
};

function findModelProblems(config: Settings): string[] {
  // A provider with a wrong address still counts as known: its address is reported instead.
  const named = config.AI_PROVIDERS.map((entry) => splitProvider(entry).name).filter(isProviderName);
  const known = [...builtInProviders, ...named];
  const wrong = config.AI_MODELS.filter((model) => isOneWord(model)).flatMap((model) => {
    const problem = explainModel(model, known);
    return problem === null ? [] : [`AI_MODELS: ${problem}`];
  });
  const missing = Object.entries(needs)
    .filter(([provider, needed]) => isAsked(provider, config.AI_MODELS) && !config[needed])
    .map(
      ([provider, needed]) =>
        `AI_MODELS names a model of ${provider}, but ${needed} is not set; set it, or remove the model.`,
    );
  return [...new Set(wrong), ...missing];
}

const isAsked = (provider: string, models: readonly string[]): boolean =>
  models.some((model) => model.startsWith(`${provider}/`));

/** Malformed entries have already been reported. */
const isOneWord = (model: string): boolean => /^(?!\[)[^\s;"']+$/.test(model);

const SHOWN_LENGTH_MAX = 100;

function explainModel(model: string, known: readonly string[]): string | null {
  // It may have a password.
  if (/^[a-z]+:\/\//i.test(model))
    return `${JSON.stringify(maskAddress(model).slice(0, SHOWN_LENGTH_MAX))} is an address; add name=ITS_BASE_URL to AI_PROVIDERS, and name/ and a model here.`;
  const [, first = model, separator, rest = ""] = /^([^/:]*)([/:])(.*)$/s.exec(model) ?? [];
  const isKnown = known.includes(first.toLowerCase());
  if (known.includes(first) && separator === "/" && rest !== "") return null;
  const shown = JSON.stringify(model.slice(0, SHOWN_LENGTH_MAX));
  if (isKnown && rest === "")
    return `${shown} has no model name; write ${first.toLowerCase()}/ followed by the model's name.`;
  if (isKnown) return `${shown} is not a model; write ${first.toLowerCase()}/${rest}.`;
  if (separator !== "/") return `${shown} has no provider; write ${guessProvider(model)}/${model}.`;
  return (
    `${shown} names the provider ${JSON.stringify(first)}, which is not one of ${known.join(", ")}; for another OpenAI-compatible ` +
    `server add ${isProviderName(first) ? first : "name"}=ITS_BASE_URL to AI_PROVIDERS.`
  );
}

function guessProvider(model: string): string {
  if (/^(?:gpt|o\d|chatgpt)/i.test(model)) return "openai";
  return /^claude/i.test(model) ? "anthropic" : "compatible";
}

/** A request carries one credential, so several would be ambiguous. */
function findCredentialProblems({ baseUrl = "", apiKey, headers, settings }: ProviderConfig): string[] {
  if (!readUserinfo(baseUrl)) return [];
  const place = describeAddress(settings);
  if (apiKey) return [`${place} has a user and password, but ${settings.apiKey} is set; remove one of them.`];
  return headers.authorization === undefined
    ? []
    : [`${place} has a user and password, but ${settings.headers} has authorization; remove one of them.`];
}

/** The SDKs append the rest of the path, so a URL copied in full would contain it twice. */
function findAddressProblems({ baseUrl = "", settings }: ProviderConfig): string[] {
  if (!URL.canParse(baseUrl)) return [];
  const { pathname, search } = new URL(baseUrl);
  const [, rest] = /(\/(?:chat\/completions|completions|responses|messages|models))\/?$/.exec(pathname) ?? [];
  // Azure's models of other vendors are below https://NAME.services.ai.azure.com/models?api-version=….
  if (rest === undefined || (rest === "/models" && search !== "")) return [];
  return [`${describeAddress(settings)} ends with ${rest}, which Parley adds itself; remove that part.`];
}

const describeAddress = ({ baseUrl, address }: ProviderConfig["settings"]): string =>
  address === baseUrl ? `${baseUrl}: it` : `${baseUrl}: ${address.replace(` in ${baseUrl}`, "")}`;
