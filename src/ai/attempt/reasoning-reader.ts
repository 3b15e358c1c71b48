import type { AnswerPart } from "../answer-part.ts";
import type { PushPart } from "../provider.ts";
import { type AnswerState, REASONING_LENGTH_MAX, showReasoning } from "./answer.ts";
import { createTextCleaner } from "./text-cleaner.ts";

/** UTF-16 units of reasoning kept per attempt to count its tokens; more is not counted. */
const COUNTED_LENGTH_MAX = 1_000_000;

/** Separates blocks of reasoning. */
const BREAK = "\n\n";

/**
 * Reads the reasoning of one attempt: counts it, and shows up to REASONING_LENGTH_MAX of it. A blank line separates
 * reasoning before and after a text, a tool call, a step or an attempt.
 * @param push receives the shown reasoning; null: none is shown.
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
      // Leading white space is dropped, so a blank block stays empty.
      const shown = isPaused ? text.trimStart() : text;
      if (shown === "") return;
      cleaner.push(isPaused && answer.reasoning !== "" ? BREAK + shown : shown);
      isPaused = false;
    },
    /** Called when the model sends something other than reasoning. */
    pause(): void {
      isPaused = true;
    },
    /** All reasoning of the model, shown or not. */
    all: (): string => all,
  };
}
