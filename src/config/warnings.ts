import { findBackupWarnings } from "./backup.ts";
import { listEnvironmentWarnings } from "./environments.ts";
import { findProxyWarnings } from "./network.ts";
import { readProviderNames } from "./providers.ts";
import type { Settings } from "./settings.ts";
import { findUnknownNames } from "./unknown-names.ts";

type Environment = Record<string, string | undefined>;

type Surroundings = {
  /** What the configuration was read from. */
  environment: Environment;
  /** Whether a name stands in `.env`. */
  isFromFile?: (name: string) => boolean;
};

/** What is likely not meant so, but can be served with: sentences with what to do, without a secret. */
export function findWarnings(config: Settings, { environment, isFromFile }: Surroundings): string[] {
  return [
    ...findUnknownNames(environment, isFromFile, config),
    ...findUnusedServer(config),
    ...findUnusedProviders(config),
    ...findBackupWarnings(config),
    ...listEnvironmentWarnings(config),
    ...findProxyWarnings(config),
  ];
}

/** A server of models that nobody would ever ask. Which of its models is meant, Parley cannot know. */
function findUnusedServer({ COMPATIBLE_BASE_URL, COMPATIBLE_API_KEY, AI_MODELS }: Settings): string[] {
  if (COMPATIBLE_BASE_URL === undefined)
    return COMPATIBLE_API_KEY === undefined
      ? []
      : ["COMPATIBLE_API_KEY is set, but COMPATIBLE_BASE_URL is not, so it has no effect; set both, and AI_MODELS."];
  if (AI_MODELS.some((model) => model.startsWith("compatible/"))) return [];
  return [
    "COMPATIBLE_BASE_URL is set, but AI_MODELS names none of that server's models, so it is not used; set " +
      "AI_MODELS=compatible/NAME (the server lists its names under /models of that address).",
  ];
}

/** The same for servers of AI_PROVIDERS. */
const findUnusedProviders = ({ AI_PROVIDERS, AI_MODELS }: Settings): string[] =>
  readProviderNames(AI_PROVIDERS)
    .filter((name) => !AI_MODELS.some((model) => model.startsWith(`${name}/`)))
    .map(
      (name) =>
        `AI_PROVIDERS names the server ${name}, but AI_MODELS none of its models, so it is not used; add ${name}/MODEL to ` +
        "AI_MODELS (the server lists its models under /models of its address).",
    );
