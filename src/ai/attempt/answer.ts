import type { AnswerPart } from "../answer-part.ts";
import type { PushPart } from "../provider.ts";
import { ANSWER_LENGTH_MAX } from "./text-cleaner.ts";

/**
 * Most reasoning of one answer that is shown, in UTF-16 units: more than models think, but for a few (100,000 tokens are
 * about 400,000). What goes beyond is dropped, and the answer goes on.
 */
export const REASONING_LENGTH_MAX = 200_000;

/** The answer of one run as the reader has it so far. */
export type AnswerState = {
  shown: string;
  /** What the models thought, as far as it is shown. */
  reasoning: string;
  /** The number of the newest attempt that has shown text or reasoning, from 1 on. */
  attempt: number;
  /** Who wrote text of it, in order. */
  models: string[];
  /** The last of them, while it is at work. */
  writer: string | null;
  /** Whether the attempt at work has opened the answer, so that texts may follow. */
  isOpen: boolean;
  /** Whether opening it is said, by a `start` or a `reset`. Not needed while the readers are up to date. */
  announce: boolean;
  /** Where the step of this run begins: the text before is that of earlier steps, and no model goes on with it. */
  stepStart: number;
  /** The same in the reasoning. */
  stepReasoningStart: number;
  /** How much of the reasoning led to text that is shown: the rest is forgotten if its attempt fails. */
  usedReasoning: number;
};

/** How the text of an earlier run is gone on with. */
export type Resume = {
  text: string;
  reasoning?: string;
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
  const { text, reasoning: thought = "", attempt, step } = resume ?? { text: "", attempt: 0 };
  const isStep = step === "next" || step === "restarted";
  // Of a text that is only begun, nothing is gone on with: nor is what led to it.
  const reasoning = isStep || text.trim() !== "" ? thought : "";
  return {
    shown: text,
    reasoning,
    attempt,
    models: [],
    writer: null,
    isOpen: false,
    announce: step !== "next",
    stepStart: isStep ? text.length : 0,
    stepReasoningStart: isStep ? reasoning.length : 0,
    usedReasoning: reasoning.length,
  };
}

/** What a model that takes over has to go on with, or null for a step of which there is nothing yet. */
export function findPartial({ shown, stepStart }: AnswerState): string | null {
  const partial = shown.slice(stepStart);
  return partial.trim() === "" ? null : partial;
}

/** The attempt at work has failed: the next one announces itself. Reasoning that led to no text is forgotten. */
export function closeAnswer(answer: AnswerState): void {
  if (answer.isOpen) answer.announce = true;
  answer.isOpen = false;
  answer.writer = null;
  if (findPartial(answer) === null) restartReasoning(answer);
  else answer.reasoning = answer.reasoning.slice(0, answer.usedReasoning);
}

/** Takes back what this step has written: what began a tool call cannot be gone on with by another model. */
export function restartStep(answer: AnswerState): void {
  answer.shown = answer.shown.slice(0, answer.stepStart);
  restartReasoning(answer);
}

function restartReasoning(answer: AnswerState): void {
  answer.reasoning = answer.reasoning.slice(0, answer.stepReasoningStart);
  answer.usedReasoning = answer.stepReasoningStart;
}

/** What may still be written in this answer, in UTF-16 units. */
export const roomLeft = (answer: AnswerState): number => ANSWER_LENGTH_MAX - answer.shown.length;

/** Adds a model's text to the answer, and pushes it. */
export function showText(answer: AnswerState, model: string, text: string, push: PushPart<AnswerPart>): void {
  if (!answer.isOpen) openAnswer(answer, model, push);
  if (answer.writer === null) nameWriter(answer, model);
  answer.shown += text;
  answer.usedReasoning = answer.reasoning.length;
  push({ type: "text", text });
}

/** Adds what a model thinks to the answer, and pushes it. */
export function showReasoning(answer: AnswerState, model: string, text: string, push: PushPart<AnswerPart>): void {
  if (!answer.isOpen) openAnswer(answer, model, push);
  answer.reasoning += text;
  push({ type: "reasoning", text });
}

/** Has the model at work count as one that wrote the answer. */
export function nameWriter(answer: AnswerState, model: string): void {
  answer.writer = model;
  if (!answer.models.includes(model)) answer.models.push(model);
}

/** Pushes what comes before a model's first part: `start` for a new answer, `reset` where another attempt goes on. */
export function openAnswer(answer: AnswerState, model: string, push: PushPart<AnswerPart>): void {
  const { announce, shown: text, reasoning } = answer;
  answer.isOpen = true;
  answer.announce = false;
  if (!announce) return;
  answer.attempt += 1;
  const { attempt } = answer;
  if (attempt === 1) push({ type: "start", model, attempt });
  else push({ type: "reset", model, attempt, text, ...(reasoning !== "" && { reasoning }) });
}
