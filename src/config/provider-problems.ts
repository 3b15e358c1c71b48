import { maskAddress } from "../lib/mask-address.ts";
import { parseUserinfo } from "../lib/userinfo.ts";
import { listProviders, type ProviderConfig } from "./list-providers.ts";
import { builtInProviders, isProviderName, PROVIDERS_MAX, splitProvider } from "./providers.ts";
import type { Settings } from "./settings.ts";

/** Finds provider and model settings that contradict each other. The messages contain no secrets. */
export function findProviderProblems(config: Settings): string[] {
  return [
    ...findNameProblems(config.AI_PROVIDERS),
    ...findModelProblems(config),
    ...listProviders(config).flatMap((provider) => [...findCredentialProblems(provider), ...findUrlProblems(provider)]),
  ];
}

function findNameProblems(entries: readonly string[]): string[] {
  const names = entries.map((entry) => splitProvider(entry).name).filter(isProviderName);
  const duplicateNames = new Set(names.filter((name, index) => names.indexOf(name) < index));
  const problems = [...duplicateNames].map(
    (name) => `AI_PROVIDERS: two servers are named ${name}; rename one of them.`,
  );
  if (new Set(names).size > PROVIDERS_MAX)
    problems.push(`AI_PROVIDERS: it has more than ${PROVIDERS_MAX} servers; remove some.`);
  return problems;
}

const requiredSettings: Record<string, "OPENAI_API_KEY" | "ANTHROPIC_API_KEY" | "COMPATIBLE_BASE_URL"> = {
  openai: "OPENAI_API_KEY",
  anthropic: "ANTHROPIC_API_KEY",
  compatible: "COMPATIBLE_BASE_URL",
};

function findModelProblems(config: Settings): string[] {
  // Includes providers with an invalid URL, because the URL has already been reported.
  const configuredNames = config.AI_PROVIDERS.map((entry) => splitProvider(entry).name).filter(isProviderName);
  const knownProviders = [...builtInProviders, ...configuredNames];
  const modelProblems = config.AI_MODELS.filter((model) => isWellFormed(model)).flatMap((model) => {
    const problem = explainModel(model, knownProviders);
    return problem === null ? [] : [`AI_MODELS: ${problem}`];
  });
  const missingSettings = Object.entries(requiredSettings)
    .filter(([provider, setting]) => isUsed(provider, config.AI_MODELS) && !config[setting])
    .map(
      ([provider, setting]) =>
        `AI_MODELS includes a model from ${provider}, but ${setting} is not set; set it, or remove the model.`,
    );
  return [...new Set(modelProblems), ...missingSettings];
}

const isUsed = (provider: string, models: readonly string[]): boolean =>
  models.some((model) => model.startsWith(`${provider}/`));

/** Returns whether a model's name is well-formed. Malformed ones have already been reported. */
const isWellFormed = (model: string): boolean => /^(?!\[)[^\s;"']+$/.test(model);

const SHOWN_CHARS_MAX = 100;

function explainModel(model: string, knownProviders: readonly string[]): string | null {
  // The URL may contain a password.
  if (/^[a-z]+:\/\//i.test(model))
    return `${JSON.stringify(maskAddress(model).slice(0, SHOWN_CHARS_MAX))} is a URL; add name=ITS_BASE_URL to AI_PROVIDERS, and name/ and a model here.`;
  const [, provider = model, separator, name = ""] = /^([^/:]*)([/:])(.*)$/s.exec(model) ?? [];
  const isKnown = knownProviders.includes(provider.toLowerCase());
  if (knownProviders.includes(provider) && separator === "/" && name !== "") return null;
  const quotedModel = JSON.stringify(model.slice(0, SHOWN_CHARS_MAX));
  if (isKnown && name === "")
    return `${quotedModel} has no model name; write ${provider.toLowerCase()}/ followed by the model's name.`;
  if (isKnown) return `${quotedModel} is not a model; write ${provider.toLowerCase()}/${name}.`;
  if (separator !== "/") return `${quotedModel} has no provider; write ${guessProvider(model)}/${model}.`;
  return (
    `${quotedModel} specifies the provider ${JSON.stringify(provider)}, which is not one of ${knownProviders.join(", ")}; for another OpenAI-compatible ` +
    `server add ${isProviderName(provider) ? provider : "name"}=ITS_BASE_URL to AI_PROVIDERS.`
  );
}

function guessProvider(model: string): string {
  if (/^(?:gpt|o\d|chatgpt)/i.test(model)) return "openai";
  return /^claude/i.test(model) ? "anthropic" : "compatible";
}

/** Finds a provider with more than one credential. A request can have only one. */
function findCredentialProblems({ baseUrl = "", apiKey, headers, settings }: ProviderConfig): string[] {
  if (!parseUserinfo(baseUrl)) return [];
  const url = describeUrl(settings);
  if (apiKey) return [`${url} has a user and password, but ${settings.apiKey} is set; remove one of them.`];
  return headers.authorization === undefined
    ? []
    : [`${url} has a user and password, but ${settings.headers} has authorization; remove one of them.`];
}

/** Finds a URL that ends with the path of an endpoint. Requests would contain the path twice, because the SDKs append it. */
function findUrlProblems({ baseUrl = "", settings }: ProviderConfig): string[] {
  if (!URL.canParse(baseUrl)) return [];
  const { pathname, search } = new URL(baseUrl);
  const [, endpointPath] = /(\/(?:chat\/completions|completions|responses|messages|models))\/?$/.exec(pathname) ?? [];
  // Azure serves other vendors' models under https://NAME.services.ai.azure.com/models?api-version=….
  if (endpointPath === undefined || (endpointPath === "/models" && search !== "")) return [];
  return [`${describeUrl(settings)} ends with ${endpointPath}, which Parley adds itself; remove that part.`];
}

const describeUrl = ({ baseUrl, urlDescription }: ProviderConfig["settings"]): string =>
  urlDescription === baseUrl ? `${baseUrl}: it` : `${baseUrl}: ${urlDescription.replace(` in ${baseUrl}`, "")}`;
