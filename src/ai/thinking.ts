import { asFields, type Fields } from "./fields.ts";
import type { Thinking } from "./provider.ts";

/** Maximum length of the thinking stored for one answer: its JSON in UTF-16 code units. */
export const THINKING_LENGTH_MAX = 1024 * 1024;

/** The provider and model that produced the thinking. */
export type ThinkingSource = {
  /** `Provider.name` */
  provider: string;
  /** The provider's own name for the model. */
  model: string;
};

/** Returns the length of the thinking's JSON in UTF-16 code units. */
export const getThinkingLength = (thinking: Thinking): number => JSON.stringify(thinking.data).length;

/** Creates the thinking of one step. Returns undefined if there is none or it is too long. */
export function createThinking(thinkingSource: ThinkingSource | undefined, data: object | null): Thinking | undefined {
  if (!thinkingSource || data === null) return undefined;
  const { provider, model } = thinkingSource;
  const thinking = { provider, data: { ...data, model } };
  return getThinkingLength(thinking) > THINKING_LENGTH_MAX ? undefined : thinking;
}

/** Returns the thinking's data if it is from this provider, or null. */
export const findProviderThinking = (
  thinking: Thinking | undefined,
  { provider }: Pick<ThinkingSource, "provider">,
): Fields | null => (thinking?.provider === provider ? asFields(thinking.data) : null);

/** Returns the thinking's data if it is from this model, or null. Other models can't read signed or encrypted thinking. */
export function findModelThinking(thinking: Thinking | undefined, thinkingSource: ThinkingSource): Fields | null {
  const data = findProviderThinking(thinking, thinkingSource);
  return data?.model === thinkingSource.model ? data : null;
}
