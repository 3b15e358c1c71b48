import type { AnswerPart } from "../answer-part.ts";
import type { PushPart } from "../provider.ts";
import { ANSWER_LENGTH_MAX } from "./text-cleaner.ts";

/**
 * Most reasoning shown for one answer, in UTF-16 units. Few models think more (100,000 tokens are about 400,000 units). The
 * rest is dropped and the answer continues.
 */
export const REASONING_LENGTH_MAX = 200_000;

/** The answer of one run as its reader has it so far. */
export type AnswerState = {
  shown: string;
  /** The reasoning shown so far. */
  reasoning: string;
  /** The number of the newest attempt that has shown text or reasoning, starting at 1. */
  attempt: number;
  /** The models that wrote its text, in order. */
  models: string[];
  /** The current writer, while its attempt is running. */
  writer: string | null;
  /** Whether the running attempt has opened the answer, so that texts may follow. */
  isOpen: boolean;
  /** Whether to announce the attempt with `start` or `reset`. Not needed while readers are up to date. */
  announce: boolean;
  /** Where this run's step starts in the text. Earlier text belongs to finished steps and is never continued. */
  stepStart: number;
  /** Where this run's step starts in the reasoning. */
  stepReasoningStart: number;
  /** Length of the reasoning that led to shown text. The rest is dropped if its attempt fails. */
  usedReasoning: number;
};

/** How to continue the text of an earlier run. */
export type Resume = {
  text: string;
  reasoning?: string;
  attempt: number;
  /**
   * `broken` (default): the text broke off and is continued. `next`: the text is that of earlier steps, which ended with
   * tool calls that are among the messages; a new step follows. `restarted`: the same, but readers may have more text than
   * this.
   */
  step?: "broken" | "next" | "restarted";
};

/** Creates the state of an answer at the start of a run. */
export function createAnswerState(resume: Resume | null | undefined): AnswerState {
  const { text, reasoning: thought = "", attempt, step } = resume ?? { text: "", attempt: 0 };
  const isStep = step === "next" || step === "restarted";
  // An answer of white space alone is not continued, so its reasoning is dropped too.
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

/** Returns the text that the next model has to continue, or null if this step has none yet. */
export function findPartial({ shown, stepStart }: AnswerState): string | null {
  const partial = shown.slice(stepStart);
  return partial.trim() === "" ? null : partial;
}

/** Called when the running attempt has failed: the next one announces itself. Reasoning without text is dropped. */
export function closeAnswer(answer: AnswerState): void {
  if (answer.isOpen) answer.announce = true;
  answer.isOpen = false;
  answer.writer = null;
  if (findPartial(answer) === null) restartReasoning(answer);
  else answer.reasoning = answer.reasoning.slice(0, answer.usedReasoning);
}

/** Discards what this step has written: once a tool call has begun, another model can't continue it. */
export function restartStep(answer: AnswerState): void {
  answer.shown = answer.shown.slice(0, answer.stepStart);
  restartReasoning(answer);
}

function restartReasoning(answer: AnswerState): void {
  answer.reasoning = answer.reasoning.slice(0, answer.stepReasoningStart);
  answer.usedReasoning = answer.stepReasoningStart;
}

/** UTF-16 units that may still be written in this answer. */
export const charsLeft = (answer: AnswerState): number => ANSWER_LENGTH_MAX - answer.shown.length;

/** Appends a model's text to the answer and pushes it. */
export function showText(answer: AnswerState, model: string, text: string, push: PushPart<AnswerPart>): void {
  if (!answer.isOpen) openAnswer(answer, model, push);
  if (answer.writer === null) recordWriter(answer, model);
  answer.shown += text;
  answer.usedReasoning = answer.reasoning.length;
  push({ type: "text", text });
}

/** Appends a model's reasoning to the answer and pushes it. */
export function showReasoning(answer: AnswerState, model: string, text: string, push: PushPart<AnswerPart>): void {
  if (!answer.isOpen) openAnswer(answer, model, push);
  answer.reasoning += text;
  push({ type: "reasoning", text });
}

/** Records the running model as a writer of the answer. */
export function recordWriter(answer: AnswerState, model: string): void {
  answer.writer = model;
  if (!answer.models.includes(model)) answer.models.push(model);
}

/** Pushes `start` for a new answer, or `reset` if another attempt takes over, before a model's first part. */
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
