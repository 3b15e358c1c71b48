import type { ReasoningEffort } from "../protocol/reasoning-effort.ts";

/**
 * Exceptions to what a model's family supports, and the parameters that models reject (checked in November 2026). Unlisted
 * models work too: Parley assumes that they think, and detects at runtime which parameters they reject (providers/parameters/).
 */

/** Models (`provider/name`) that don't think before they answer. */
const nonThinkingModels = [
  // Includes `gpt-5-chat-latest`, but not `gpt-5`.
  /^openai\/(?:gpt-4|gpt-3\.5|chatgpt-4o|gpt-[5-9](?:\.\d+)?-chat)/,
  /^anthropic\/claude-(?:instant|2|3-(?!7))/,
  /^offline\//,
];

/** Whether a model (`provider/name`) is known not to think. */
export const isKnownNotToThink = (model: string): boolean => {
  const name = toVendorModelName(model);
  return nonThinkingModels.some((pattern) => pattern.test(name));
};

/**
 * Replaces the provider in a model's name with the vendor: `openrouter/anthropic/claude-…` becomes `anthropic/claude-…`.
 * The capabilities depend on the vendor's model; the limits and the price depend on the provider.
 */
export const toVendorModelName = (model: string): string =>
  /^[^/]+\/((?:openai|anthropic)\/.+)$/s.exec(model)?.[1] ?? model;

/** Models (`provider/name`) whose provider can't enforce a schema. */
const modelsWithoutSchemas = [
  /^openai\/(?:gpt-3\.5|gpt-4(?![.o])|gpt-4o-2024-05-13|chatgpt-4o|o1-(?:mini|preview))/,
  // Claude Opus 4.1 and all models from Claude 4.5 on support schemas.
  /^anthropic\/claude-(?:instant|[23]|(?:opus|sonnet)-4-(?:0|20\d{6})(?!\d)|(?:opus|sonnet)-4$)/,
];

/** Whether a model (`provider/name`) is known not to support a JSON schema for its answer. */
export const isKnownToLackSchemas = (model: string): boolean => {
  const name = toVendorModelName(model);
  return modelsWithoutSchemas.some((pattern) => pattern.test(name));
};

/** Also matches names on other providers' servers: `vendor/o3-mini`, `vendor/gpt-5:free`. */
const openAiReasoningModel = /(?:^|[/:])(?:o\d|gpt-[5-9](?:\.\d+)?(?!(?:\.\d+)?-chat))(?=$|[-:@])/i;

/** Whether a name, with or without a prefix, belongs to an OpenAI reasoning model: the `o` series, GPT-5 and later. */
export const isOpenAiReasoningModel = (name: string): boolean => openAiReasoningModel.test(name);

const effortOrder = ["none", "minimal", "low", "medium", "high", "xhigh"] as const satisfies readonly ReasoningEffort[];

/** The `reasoning.effort` values that OpenAI's models accept. The first matching pattern applies. */
const openAiEfforts: readonly (readonly [RegExp, readonly ReasoningEffort[]])[] = [
  [/^gpt-5-pro/, ["high"]],
  [/^gpt-5(?:\.1)?-codex(?!-max)/, ["low", "medium", "high"]],
  [/^gpt-5\.\d+-codex/, ["low", "medium", "high", "xhigh"]],
  [/^gpt-5(?=$|-)/, ["minimal", "low", "medium", "high"]],
  [/^gpt-5\.1(?=$|-)/, ["none", "low", "medium", "high"]],
  [/^gpt-5\.\d+-pro/, ["medium", "high", "xhigh"]],
  [/^gpt-/, ["none", "low", "medium", "high", "xhigh"]],
  [/^o\d/, ["low", "medium", "high"]],
];

/** Returns the nearest effort that an OpenAI model accepts. */
export function mapOpenAiEffort(name: string, effort: ReasoningEffort): ReasoningEffort {
  const accepted = openAiEfforts.find(([pattern]) => pattern.test(name))?.[1];
  return accepted ? findNearestEffort(effort, accepted) : effort;
}

/** Returns the nearest accepted effort, or the lower one if two are equally near. @param accepted must not be empty. */
export function findNearestEffort(effort: ReasoningEffort, accepted: readonly ReasoningEffort[]): ReasoningEffort {
  const distance = (other: ReasoningEffort) => Math.abs(effortOrder.indexOf(other) - effortOrder.indexOf(effort));
  const ordered = effortOrder.filter((value) => accepted.includes(value));
  return ordered.reduce((best, value) => (distance(value) < distance(best) ? value : best), ordered[0] ?? effort);
}

/** Returns the next lower effort, or null for the lowest. */
export const getLowerEffort = (effort: ReasoningEffort): ReasoningEffort | null =>
  effortOrder[effortOrder.indexOf(effort) - 1] ?? null;

/** Whether a value is a known effort. */
export const isEffort = (value: unknown): value is ReasoningEffort => effortOrder.some((effort) => effort === value);

/** Whether a model accepts `stop`. Among the reasoning models, only `o1` does. */
export const acceptsStop = (name: string): boolean =>
  !isOpenAiReasoningModel(name) || /(?:^|[/:])o1(?=$|[-:@])/i.test(name);

const claudeVersion = /^claude-[a-z]+-(\d+)(?:-(\d{1,2}))?(?!\d)/;

/** Whether a Claude model accepts `temperature` and `top_p` together. Claude 4.1 and later don't. */
export function acceptsTemperatureWithTopP(name: string): boolean {
  const [, major = "0", minor = "0"] = claudeVersion.exec(name) ?? [];
  return Number(major) < 4 || (Number(major) === 4 && Number(minor) < 1);
}
