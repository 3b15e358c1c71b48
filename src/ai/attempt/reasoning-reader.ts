import type { AnswerPart } from "../answer-part.ts";
import type { PushPart } from "../provider.ts";
import { type AnswerState, REASONING_LENGTH_MAX, showReasoning } from "./answer.ts";
import { createTextCleaner } from "./text-cleaner.ts";

/** UTF-16 units of reasoning that an attempt keeps to count its tokens; more is not counted. */
const COUNTED_LENGTH_MAX = 1_000_000;

/** Between what is thought at different times. */
const BREAK = "\n\n";

/**
 * Takes what the model of one attempt thinks: counts it, and shows it within REASONING_LENGTH_MAX, with a blank line
 * between what is thought before and after a text, a tool call, a step, or an attempt.
 * @param push takes what is shown; null: nothing is.
 */
export function createReasoningReader(answer: AnswerState, model: string, push: PushPart<AnswerPart> | null) {
  let all = "";
  let isPaused = true;
  const cleaner =
    push &&
    createTextCleaner(REASONING_LENGTH_MAX - answer.reasoning.length, (text) =>
      showReasoning(answer, model, text, push),
    );

  return {
    push(text: string): void {
      if (all.length < COUNTED_LENGTH_MAX) all += text;
      if (!cleaner || cleaner.isFull()) return;
      // White space before it is none of it: a block of nothing else is empty.
      const shown = isPaused ? text.trimStart() : text;
      if (shown === "") return;
      cleaner.push(isPaused && answer.reasoning !== "" ? BREAK + shown : shown);
      isPaused = false;
    },
    /** The model does something else. */
    pause(): void {
      isPaused = true;
    },
    /** What the model has thought, shown or not. */
    all: (): string => all,
  };
}
