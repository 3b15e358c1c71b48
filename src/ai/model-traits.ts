import type { ReasoningEffort } from "../protocol/reasoning-effort.ts";

/**
 * How single models differ from their family, and which parameters they reject (checked in November 2026). Unlisted models
 * still work: they are assumed to think, and rejected parameters are learned at runtime (providers/parameters/).
 */

/** Models (`provider/name`) that don't think before they answer. */
const withoutThinking = [
  // The chat variants, not `gpt-5` itself: `gpt-5-chat-latest`, `gpt-5.2-chat-latest`.
  /^openai\/(?:gpt-4|gpt-3\.5|chatgpt-4o|gpt-[5-9](?:\.\d+)?-chat)/,
  /^anthropic\/claude-(?:instant|2|3-(?!7))/,
  /^offline\//,
];

/** Whether a model (`provider/name`) is known not to think. */
export const isKnownNotToThink = (model: string): boolean => {
  const name = nameByMaker(model);
  return withoutThinking.some((pattern) => pattern.test(name));
};

/**
 * Names a model by its maker: `openrouter/anthropic/claude-…` becomes `anthropic/claude-…`, wherever it is served. The
 * maker's name decides the abilities; window, maximum answer and price are those of the serving provider.
 */
export const nameByMaker = (model: string): string => /^[^/]+\/((?:openai|anthropic)\/.+)$/s.exec(model)?.[1] ?? model;

/** Models (`provider/name`) whose provider can't enforce a schema. */
const withoutSchemas = [
  /^openai\/(?:gpt-3\.5|gpt-4(?![.o])|gpt-4o-2024-05-13|chatgpt-4o|o1-(?:mini|preview))/,
  // Claude 4.1 Opus and everything from 4.5 on supports schemas.
  /^anthropic\/claude-(?:instant|[23]|(?:opus|sonnet)-4-(?:0|20\d{6})(?!\d)|(?:opus|sonnet)-4$)/,
];

/** Whether a model (`provider/name`) is known not to support a JSON schema for its answer. */
export const isKnownWithoutSchemas = (model: string): boolean => {
  const name = nameByMaker(model);
  return withoutSchemas.some((pattern) => pattern.test(name));
};

/** Names of these models on servers other than OpenAI: `gpt-5-mini`, `vendor/o3-mini`, `vendor/gpt-5:free`. */
const openAiThinker = /(?:^|[/:])(?:o\d|gpt-[5-9](?:\.\d+)?(?!(?:\.\d+)?-chat))(?=$|[-:@])/i;

/** Whether a name, with or without a vendor prefix, is an OpenAI reasoning model: the `o` series, GPT-5 and later. */
export const isOpenAiThinker = (name: string): boolean => openAiThinker.test(name);

const effortOrder = ["none", "minimal", "low", "medium", "high", "xhigh"] as const satisfies readonly ReasoningEffort[];

/** The `reasoning.effort` values that OpenAI's models accept, by name; the first match wins. */
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

/** The nearest value that an OpenAI model accepts; the lower one of two equally near values. */
export function mapOpenAiEffort(name: string, effort: ReasoningEffort): ReasoningEffort {
  const taken = openAiEfforts.find(([pattern]) => pattern.test(name))?.[1];
  return taken ? findNearestEffort(effort, taken) : effort;
}

/** The nearest accepted value; the lower one of two equally near values. @param taken must not be empty. */
export function findNearestEffort(effort: ReasoningEffort, taken: readonly ReasoningEffort[]): ReasoningEffort {
  const distance = (other: ReasoningEffort) => Math.abs(effortOrder.indexOf(other) - effortOrder.indexOf(effort));
  const ordered = effortOrder.filter((value) => taken.includes(value));
  return ordered.reduce((best, value) => (distance(value) < distance(best) ? value : best), ordered[0] ?? effort);
}

/** The next lower value, or null below the lowest. */
export const lowerEffort = (effort: ReasoningEffort): ReasoningEffort | null =>
  effortOrder[effortOrder.indexOf(effort) - 1] ?? null;

/** Whether a value from a foreign body is a known effort. */
export const isEffort = (value: unknown): value is ReasoningEffort => effortOrder.some((effort) => effort === value);

/** Only the first `o` series models accept `stop`; all later reasoning models reject it. */
export const takesStop = (name: string): boolean => !isOpenAiThinker(name) || /(?:^|[/:])o1(?=$|[-:@])/i.test(name);

const claudeVersion = /^claude-[a-z]+-(\d+)(?:-(\d{1,2}))?(?!\d)/;

/** Whether a Claude model accepts `temperature` and `top_p` together; Claude 4.1 and later reject that. */
export function takesTemperatureWithTopP(name: string): boolean {
  const [, major = "0", minor = "0"] = claudeVersion.exec(name) ?? [];
  return Number(major) < 4 || (Number(major) === 4 && Number(minor) < 1);
}
