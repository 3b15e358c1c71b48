import type { AnswerPart } from "../answer-part.ts";
import type { PushPart } from "../provider.ts";
import { type AnswerState, REASONING_LENGTH_MAX, showReasoning } from "./answer.ts";
import { createTextCleaner } from "./text-cleaner.ts";

/** Maximum length of the reasoning that is kept for estimating an attempt's tokens, in UTF-16 code units. */
const COUNTED_LENGTH_MAX = 1_000_000;

const BLOCK_SEPARATOR = "\n\n";

/**
 * Collects the reasoning of one attempt and shows up to REASONING_LENGTH_MAX of it. A blank line separates its blocks:
 * the reasoning before and after text, a tool call, a step or an attempt.
 * @param push receives the reasoning to show, or is null if none is shown.
 */
export function createReasoningReader(answer: AnswerState, model: string, push: PushPart<AnswerPart> | null) {
  let allReasoning = "";
  let isBlockStart = true;
  const cleaner =
    push &&
    createTextCleaner(REASONING_LENGTH_MAX - answer.reasoning.length, (text) =>
      showReasoning(answer, model, text, push),
    );

  return {
    push(text: string): void {
      if (allReasoning.length < COUNTED_LENGTH_MAX) allReasoning += text;
      if (!cleaner || cleaner.isFull()) return;
      // Leading whitespace is dropped, so a blank block stays empty.
      const shown = isBlockStart ? text.trimStart() : text;
      if (shown === "") return;
      cleaner.push(isBlockStart && answer.reasoning !== "" ? BLOCK_SEPARATOR + shown : shown);
      isBlockStart = false;
    },
    /** Ends the current block. */
    endBlock(): void {
      isBlockStart = true;
    },
    /** Returns all reasoning of this attempt, including reasoning that wasn't shown. */
    getAllReasoning: (): string => allReasoning,
  };
}
