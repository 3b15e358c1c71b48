import type { AnswerPart } from "../answer-part.ts";
import type { PushPart } from "../provider.ts";
import { ANSWER_LENGTH_MAX } from "./text-cleaner.ts";

/** The answer of one run as the reader has it so far. */
export type AnswerState = {
  shown: string;
  /** The number of the newest attempt that has shown text, from 1 on. */
  attempt: number;
  /** Who wrote text of it, in order. */
  models: string[];
  /** Whether the attempt at work has opened the answer, so that texts may follow. */
  isOpen: boolean;
  /** Whether opening it is said, by a `start` or a `reset`. Not needed while the readers are up to date. */
  announce: boolean;
  /** Where the step of this run begins: the text before is that of earlier steps, and no model goes on with it. */
  stepStart: number;
};

/** How the text of an earlier run is gone on with. */
export type Resume = {
  text: string;
  attempt: number;
  /**
   * `broken` (as when absent): the text broke off, and goes on. The others: it is that of earlier steps, which ended with
   * tool calls and are in the messages; a new step follows it, which is the `next` one, or one that is `restarted`, so
   * that readers may have more text than this.
   */
  step?: "broken" | "next" | "restarted";
};

/** The answer at the beginning of a run. */
export function createAnswerState(resume: Resume | null | undefined): AnswerState {
  const { text, attempt, step } = resume ?? { text: "", attempt: 0 };
  const stepStart = step === "next" || step === "restarted" ? text.length : 0;
  return { shown: text, attempt, models: [], isOpen: false, announce: step !== "next", stepStart };
}

/** What a model that takes over has to go on with, or null for a step of which there is nothing yet. */
export function findPartial({ shown, stepStart }: AnswerState): string | null {
  const partial = shown.slice(stepStart);
  return partial.trim() === "" ? null : partial;
}

/** The attempt at work has failed: the next one announces itself. */
export function closeAnswer(answer: AnswerState): void {
  if (answer.isOpen) answer.announce = true;
  answer.isOpen = false;
}

/** Takes back what this step has written: what began a tool call cannot be gone on with by another model. */
export function restartStep(answer: AnswerState): void {
  answer.shown = answer.shown.slice(0, answer.stepStart);
}

/** What may still be written in this answer, in UTF-16 units. */
export const roomLeft = (answer: AnswerState): number => ANSWER_LENGTH_MAX - answer.shown.length;

/** Adds a model's text to the answer, and pushes it. */
export function showText(answer: AnswerState, model: string, text: string, push: PushPart<AnswerPart>): void {
  if (!answer.isOpen) openAnswer(answer, model, push);
  answer.shown += text;
  push({ type: "text", text });
}

/** Pushes what comes before a model's first text: `start` for a new answer, `reset` where another attempt goes on. */
export function openAnswer(answer: AnswerState, model: string, push: PushPart<AnswerPart>): void {
  const { announce, shown } = answer;
  answer.isOpen = true;
  answer.announce = false;
  if (!answer.models.includes(model)) answer.models.push(model);
  if (!announce) return;
  answer.attempt += 1;
  const { attempt } = answer;
  push(attempt === 1 ? { type: "start", model, attempt } : { type: "reset", model, attempt, text: shown });
}
