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

/** How servers other than OpenAI call these models: `gpt-5-mini`, `vendor/o3-mini`, `vendor/gpt-5:free`. */
const openAiThinker = /(?:^|[/:])(?:o\d|gpt-[5-9](?:\.\d+)?(?!(?:\.\d+)?-chat))(?=$|[-:@])/i;

/** Whether a name, with or without a vendor before it, is that of an OpenAI model that thinks: `o` series, GPT-5 and later. */
export const isOpenAiThinker = (name: string): boolean => openAiThinker.test(name);

/** The first models of the `o` series take `stop`; all later models that think refuse it. */
export const takesStop = (name: string): boolean => !isOpenAiThinker(name) || /(?:^|[/:])o1(?=$|[-:@])/i.test(name);

const claudeVersion = /^claude-[a-z]+-(\d+)(?:-(\d{1,2}))?(?!\d)/;

/** Whether a Claude model takes `temperature` and `top_p` together; from Claude 4.1 on they refuse that. */
export function takesTemperatureWithTopP(name: string): boolean {
  const [, major = "0", minor = "0"] = claudeVersion.exec(name) ?? [];
  return Number(major) < 4 || (Number(major) === 4 && Number(minor) < 1);
}
