import { type Fields, readFields } from "./fields.ts";
import type { Thinking } from "./provider.ts";

/** Most thinking kept for one answer, in UTF-16 units of JSON; the answer continues without the rest. */
export const THINKING_LENGTH_MAX = 1024 * 1024;

/** The provider and model that produced thinking. */
export type ThinkingSource = {
  /** `Provider.name` */
  provider: string;
  /** The provider's own name of the model. */
  model: string;
};

/** The length of thinking as JSON, in UTF-16 units. */
export const measureThinking = (thinking: Thinking): number => JSON.stringify(thinking.data).length;

/** The thinking kept for one step, with its model; undefined if there is none or too much. */
export function createThinking(thinker: ThinkingSource | undefined, data: object | null): Thinking | undefined {
  if (!thinker || data === null) return undefined;
  const { provider, model } = thinker;
  const thinking = { provider, data: { ...data, model } };
  return measureThinking(thinking) > THINKING_LENGTH_MAX ? undefined : thinking;
}

/** The data of thinking if it is from the provider being asked; null if it is from another. */
export const findOwnThinking = (
  thinking: Thinking | undefined,
  { provider }: Pick<ThinkingSource, "provider">,
): Fields | null => (thinking?.provider === provider ? readFields(thinking.data) : null);

/** The same, only if it is from the same model: others can't read signed or encrypted thinking. */
export function findModelThinking(thinking: Thinking | undefined, thinker: ThinkingSource): Fields | null {
  const own = findOwnThinking(thinking, thinker);
  return own?.model === thinker.model ? own : null;
}
