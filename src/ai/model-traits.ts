import type { ReasoningEffort } from "../protocol/reasoning-effort.ts";

/*
 * What single models do otherwise than their family, and which parameters they refuse (checked in November 2026). A name
 * that is not here loses nothing: a model that we don't know may think, and what it refuses is learned from its refusal
 * (providers/parameters/).
 */

/** Models that write at once (`provider/name`): they don't think before they answer. */
const withoutThinking = [
  // Not `gpt-5` itself, but its chat forms: `gpt-5-chat-latest`, `gpt-5.2-chat-latest`.
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
 * A model by the name of its maker: `openrouter/anthropic/claude-…` is `anthropic/claude-…`, wherever it is served. What the
 * model can do is known by that; its window, its longest answer and its price are the server's.
 */
export const nameByMaker = (model: string): string => /^[^/]+\/((?:openai|anthropic)\/.+)$/s.exec(model)?.[1] ?? model;

/** Models (`provider/name`) whose provider forces no answer into a schema. */
const withoutSchemas = [
  /^openai\/(?:gpt-3\.5|gpt-4(?![.o])|gpt-4o-2024-05-13|chatgpt-4o|o1-(?:mini|preview))/,
  // Claude 4.1 Opus and everything from 4.5 on can.
  /^anthropic\/claude-(?:instant|[23]|(?:opus|sonnet)-4-(?:0|20\d{6})(?!\d)|(?:opus|sonnet)-4$)/,
];

/** Whether a model (`provider/name`) is known to take no JSON schema for its answer. */
export const isKnownWithoutSchemas = (model: string): boolean => withoutSchemas.some((pattern) => pattern.test(model));

/** How servers other than OpenAI call these models: `gpt-5-mini`, `vendor/o3-mini`, `vendor/gpt-5:free`. */
const openAiThinker = /(?:^|[/:])(?:o\d|gpt-[5-9](?:\.\d+)?(?!(?:\.\d+)?-chat))(?=$|[-:@])/i;

/** Whether a name, with or without a vendor before it, is that of an OpenAI model that thinks: `o` series, GPT-5 and later. */
export const isOpenAiThinker = (name: string): boolean => openAiThinker.test(name);

const effortOrder = ["none", "minimal", "low", "medium", "high", "xhigh"] as const satisfies readonly ReasoningEffort[];

/** The values of `reasoning.effort` that OpenAI's models take, by their names; the first that fits counts. */
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

/** The nearest value that an OpenAI model takes; of two that are as near the lower one. */
export function mapOpenAiEffort(name: string, effort: ReasoningEffort): ReasoningEffort {
  const taken = openAiEfforts.find(([pattern]) => pattern.test(name))?.[1];
  return taken ? findNearestEffort(effort, taken) : effort;
}

/** The nearest of the values that are taken, the lower one of two that are as near. @param taken not empty. */
export function findNearestEffort(effort: ReasoningEffort, taken: readonly ReasoningEffort[]): ReasoningEffort {
  const distance = (other: ReasoningEffort) => Math.abs(effortOrder.indexOf(other) - effortOrder.indexOf(effort));
  const ordered = effortOrder.filter((value) => taken.includes(value));
  return ordered.reduce((best, value) => (distance(value) < distance(best) ? value : best), ordered[0] ?? effort);
}

/** The next lower value, or null below the lowest. */
export const lowerEffort = (effort: ReasoningEffort): ReasoningEffort | null =>
  effortOrder[effortOrder.indexOf(effort) - 1] ?? null;

/** Whether a value of a foreign body is one that we know. */
export const isEffort = (value: unknown): value is ReasoningEffort => effortOrder.some((effort) => effort === value);

/** The first models of the `o` series take `stop`; all later models that think refuse it. */
export const takesStop = (name: string): boolean => !isOpenAiThinker(name) || /(?:^|[/:])o1(?=$|[-:@])/i.test(name);

const claudeVersion = /^claude-[a-z]+-(\d+)(?:-(\d{1,2}))?(?!\d)/;

/** Whether a Claude model takes `temperature` and `top_p` together; from Claude 4.1 on they refuse that. */
export function takesTemperatureWithTopP(name: string): boolean {
  const [, major = "0", minor = "0"] = claudeVersion.exec(name) ?? [];
  return Number(major) < 4 || (Number(major) === 4 && Number(minor) < 1);
}
