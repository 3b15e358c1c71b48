import type { ChainPart } from "./chain-part.ts";
import { ANSWER_LENGTH_MAX } from "./text-flow.ts";

/** The answer of one run as the reader has it so far. */
export type Answer = {
  shown: string;
  attempt: number;
  /** Who wrote text of it, in order. */
  models: string[];
  /** The next text needs a `start` or a `reset` before it. */
  isOpening: boolean;
};

/** What may still be written in this answer, in UTF-16 units. */
export const roomLeft = (answer: Answer): number => ANSWER_LENGTH_MAX - answer.shown.length;

/** Adds a model's texts to the answer; gives the parts that show them. */
export function show(answer: Answer, model: string, texts: Iterable<string>): ChainPart[] {
  const parts: ChainPart[] = [];
  for (const text of texts) {
    if (answer.isOpening) parts.push(open(answer, model));
    answer.shown += text;
    parts.push({ type: "text", text });
  }
  return parts;
}

/** The part that comes before a model's first text: `start` for a new answer, `reset` at a seam. */
export function open(answer: Answer, model: string): ChainPart {
  answer.isOpening = false;
  if (!answer.models.includes(model)) answer.models.push(model);
  answer.attempt += 1;
  const { attempt, shown } = answer;
  return attempt === 1 ? { type: "start", model, attempt } : { type: "reset", model, attempt, text: shown };
}
