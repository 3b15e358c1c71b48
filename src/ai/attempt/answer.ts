import type { AnswerPart } from "../answer-part.ts";
import type { PushPart } from "../provider.ts";
import { ANSWER_LENGTH_MAX } from "./text-cleaner.ts";

/**
 * Maximum reasoning shown per answer, in UTF-16 code units. Reasoning beyond it is dropped, and the answer continues.
 */
export const REASONING_LENGTH_MAX = 200_000;

/** The answer of one run, as its reader has received it. */
export type AnswerState = {
  /** The text shown to the reader. */
  text: string;
  /** The reasoning shown to the reader. */
  reasoning: string;
  /** The number of the newest attempt that has shown text or reasoning, starting at 1. */
  attempt: number;
  /** The models that wrote the text, in order. */
  models: string[];
  /** The current writer, while its attempt is running. */
  writer: string | null;
  /** Whether the running attempt has opened the answer, so that text and reasoning may follow. */
  isOpen: boolean;
  /** Whether the next attempt must send `start` or `reset` first. */
  shouldAnnounce: boolean;
  /** Where this run's step starts in the text. Earlier text belongs to finished steps and is never continued. */
  stepStart: number;
  /** Where this run's step starts in the reasoning. */
  stepReasoningStart: number;
  /** Length of the reasoning that led to shown text. Any further reasoning is dropped if its attempt fails. */
  usedReasoningLength: number;
};

/** The state from which a run continues an earlier run's answer. */
export type ResumePoint = {
  text: string;
  reasoning?: string;
  attempt: number;
  /**
   * - `broken` (the default): the text is incomplete and the run continues it.
   * - `next`: the text belongs to earlier steps, whose tool calls are among the messages. The run starts a new step.
   * - `restarted`: like `next`, but readers may have received text after `text`, so the run starts with a `reset`.
   */
  step?: "broken" | "next" | "restarted";
};

/** Creates the state of an answer at the start of a run. */
export function createAnswerState(resume: ResumePoint | null | undefined): AnswerState {
  const { text, reasoning: previousReasoning = "", attempt, step } = resume ?? { text: "", attempt: 0 };
  const isNewStep = step === "next" || step === "restarted";
  // Whitespace alone is not continued, so its reasoning is dropped too.
  const reasoning = isNewStep || text.trim() !== "" ? previousReasoning : "";
  return {
    text,
    reasoning,
    attempt,
    models: [],
    writer: null,
    isOpen: false,
    shouldAnnounce: step !== "next",
    stepStart: isNewStep ? text.length : 0,
    stepReasoningStart: isNewStep ? reasoning.length : 0,
    usedReasoningLength: reasoning.length,
  };
}

/** Returns the text that the next model has to continue, or null if this step has none yet. */
export function getPartialText({ text, stepStart }: AnswerState): string | null {
  const partial = text.slice(stepStart);
  return partial.trim() === "" ? null : partial;
}

/** Ends a failed attempt. Reasoning that led to no text is dropped. */
export function endFailedAttempt(answer: AnswerState): void {
  if (answer.isOpen) answer.shouldAnnounce = true;
  answer.isOpen = false;
  answer.writer = null;
  if (getPartialText(answer) === null) restartReasoning(answer);
  else answer.reasoning = answer.reasoning.slice(0, answer.usedReasoningLength);
}

/** Discards the text and reasoning of this step, so that the next attempt starts the step over. */
export function restartStep(answer: AnswerState): void {
  answer.text = answer.text.slice(0, answer.stepStart);
  restartReasoning(answer);
}

function restartReasoning(answer: AnswerState): void {
  answer.reasoning = answer.reasoning.slice(0, answer.stepReasoningStart);
  answer.usedReasoningLength = answer.stepReasoningStart;
}

/** Returns the number of UTF-16 code units left before the answer reaches its maximum length. */
export const countRemainingChars = (answer: AnswerState): number => ANSWER_LENGTH_MAX - answer.text.length;

/** Appends a model's text to the answer and pushes it. */
export function showText(answer: AnswerState, model: string, text: string, push: PushPart<AnswerPart>): void {
  if (!answer.isOpen) openAnswer(answer, model, push);
  if (answer.writer === null) recordWriter(answer, model);
  answer.text += text;
  answer.usedReasoningLength = answer.reasoning.length;
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

/** Opens the answer for a model's first part. Pushes `start` or `reset` if the attempt must be announced. */
export function openAnswer(answer: AnswerState, model: string, push: PushPart<AnswerPart>): void {
  const { shouldAnnounce, text, reasoning } = answer;
  answer.isOpen = true;
  answer.shouldAnnounce = false;
  if (!shouldAnnounce) return;
  answer.attempt += 1;
  const { attempt } = answer;
  if (attempt === 1) push({ type: "start", model, attempt });
  else push({ type: "reset", model, attempt, text, ...(reasoning !== "" && { reasoning }) });
}
