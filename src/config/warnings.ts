import { findBackupWarnings } from "./backup.ts";
import { listEnvironmentWarnings } from "./environments.ts";
import { findProxyWarnings } from "./network.ts";
import { listProviderNames } from "./providers.ts";
import type { Settings } from "./settings.ts";
import { findUnknownNames } from "./unknown-names.ts";

type Environment = Record<string, string | undefined>;

type WarningContext = {
  /** The environment that the configuration was loaded from. */
  environment: Environment;
  /** Whether a name comes from `.env`. */
  isFromFile?: (name: string) => boolean;
};

/**
 * Finds settings that are probably mistakes, but don't prevent Parley from starting. Each warning says how to fix the mistake,
 * and contains no secrets.
 */
export function findWarnings(config: Settings, { environment, isFromFile }: WarningContext): string[] {
  return [
    ...findUnknownNames(environment, isFromFile, config),
    ...findUnusedCompatibleServer(config),
    ...findUnusedProviders(config),
    ...findBackupWarnings(config),
    ...listEnvironmentWarnings(config),
    ...findProxyWarnings(config),
  ];
}

/** Finds a `compatible` server that is never used, because AI_MODELS lists none of its models. */
function findUnusedCompatibleServer({ COMPATIBLE_BASE_URL, COMPATIBLE_API_KEY, AI_MODELS }: Settings): string[] {
  if (COMPATIBLE_BASE_URL === undefined)
    return COMPATIBLE_API_KEY === undefined
      ? []
      : ["COMPATIBLE_API_KEY is set, but COMPATIBLE_BASE_URL is not, so it has no effect; set both, and AI_MODELS."];
  if (AI_MODELS.some((model) => model.startsWith("compatible/"))) return [];
  return [
    "COMPATIBLE_BASE_URL is set, but AI_MODELS has no model of that server, so it is not used; set " +
      "AI_MODELS=compatible/NAME (the server lists its models at /models below that URL).",
  ];
}

/** Finds servers in AI_PROVIDERS that are never used. */
const findUnusedProviders = ({ AI_PROVIDERS, AI_MODELS }: Settings): string[] =>
  listProviderNames(AI_PROVIDERS)
    .filter((name) => !AI_MODELS.some((model) => model.startsWith(`${name}/`)))
    .map(
      (name) =>
        `AI_PROVIDERS defines the server ${name}, but AI_MODELS lists none of its models, so it is not used; add ${name}/MODEL to ` +
        "AI_MODELS (the server lists its models at /models below its URL).",
    );
