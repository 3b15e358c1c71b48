import { type Fields, readFields } from "./fields.ts";
import type { Thinking } from "./provider.ts";

/** UTF-16 units of all thinking that is kept for one answer, as JSON; an answer that has more goes on without the rest. */
export const THINKING_LENGTH_MAX = 1024 * 1024;

/** Whose thinking it is. */
export type Thinker = {
  /** `Provider.name` */
  provider: string;
  /** The provider's own name of the model. */
  model: string;
};

/** The length of thinking as JSON, in UTF-16 units. */
export const measureThinking = (thinking: Thinking): number => JSON.stringify(thinking.data).length;

/** What is kept of one step, with its model; undefined if there is nothing, or too much of it. */
export function createThinking(thinker: Thinker | undefined, data: object | null): Thinking | undefined {
  if (!thinker || data === null) return undefined;
  const { provider, model } = thinker;
  const thinking = { provider, data: { ...data, model } };
  return measureThinking(thinking) > THINKING_LENGTH_MAX ? undefined : thinking;
}

/** What a provider has given, if it is the one that is asked now; null for that of any other. */
export const findOwnThinking = (
  thinking: Thinking | undefined,
  { provider }: Pick<Thinker, "provider">,
): Fields | null => (thinking?.provider === provider ? readFields(thinking.data) : null);

/** The same, if the same model has given it: others can't read what it has signed or encrypted. */
export function findModelThinking(thinking: Thinking | undefined, thinker: Thinker): Fields | null {
  const own = findOwnThinking(thinking, thinker);
  return own?.model === thinker.model ? own : null;
}
