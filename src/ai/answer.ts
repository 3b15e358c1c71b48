import type { ChainPart } from "./chain-part.ts";
import { ANSWER_LENGTH_MAX } from "./text-flow.ts";

/** The answer of one run as the reader has it so far. */
export type Answer = {
  shown: string;
  attempt: number;
  /** Who wrote text of it, in order. */
  models: string[];
  /** Whether the next text needs a `start` or a `reset` before it; `silent` needs neither: the readers are up to date. */
  opening: "loud" | "silent" | null;
  /** Where the turn of this run begins: the text before is that of earlier turns, and no model goes on with it. */
  turnStart: number;
};

/** How the text of an earlier run is gone on with. */
export type Resume = {
  text: string;
  attempt: number;
  /**
   * `broken` (as when absent): the text broke off, and goes on. The others: it is that of earlier turns, which ended with
   * tool calls and are in the messages; a new turn follows it, which is the `next` one, or one that is `restarted`, so
   * that readers may have more text than this.
   */
  turn?: "broken" | "next" | "restarted";
};

/** The answer at the beginning of a run. */
export function createAnswer(resume: Resume | null | undefined): Answer {
  const { text, attempt, turn } = resume ?? { text: "", attempt: 0 };
  const turnStart = turn === "next" || turn === "restarted" ? text.length : 0;
  return { shown: text, attempt, models: [], opening: turn === "next" ? "silent" : "loud", turnStart };
}

/** What a model that takes over has to go on with, or null for a turn of which there is nothing yet. */
export function findPartial({ shown, turnStart }: Answer): string | null {
  const partial = shown.slice(turnStart);
  return partial.trim() === "" ? null : partial;
}

/** Takes back what this turn has written: what began a tool call cannot be gone on with by another model. */
export function restartTurn(answer: Answer): void {
  answer.shown = answer.shown.slice(0, answer.turnStart);
}

/** What may still be written in this answer, in UTF-16 units. */
export const roomLeft = (answer: Answer): number => ANSWER_LENGTH_MAX - answer.shown.length;

/** Adds a model's texts to the answer; gives the parts that show them. */
export function show(answer: Answer, model: string, texts: Iterable<string>): ChainPart[] {
  const parts: ChainPart[] = [];
  for (const text of texts) {
    if (answer.opening) parts.push(...open(answer, model));
    answer.shown += text;
    parts.push({ type: "text", text });
  }
  return parts;
}

/** What comes before a model's first text: `start` for a new answer, `reset` at a seam. */
export function open(answer: Answer, model: string): ChainPart[] {
  const isSilent = answer.opening === "silent";
  answer.opening = null;
  if (!answer.models.includes(model)) answer.models.push(model);
  if (isSilent) return [];
  answer.attempt += 1;
  const { attempt, shown } = answer;
  return [attempt === 1 ? { type: "start", model, attempt } : { type: "reset", model, attempt, text: shown }];
}
