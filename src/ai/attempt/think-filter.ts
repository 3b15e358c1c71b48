const OPEN_TAG = "<think>";
const CLOSE_TAG = "</think>";

/** UTF-16 units of white space held back before a think block; after more, the text counts as the answer. */
const SPACE_LENGTH_MAX = 64;

/** What the model is writing. `start`: no text yet. `behind`: after the block, before any text. */
type FilterState = "start" | "block" | "behind" | "text";

/**
 * Removes the think block at the start of a model's text. Some models, and servers that don't know them, put the reasoning
 * in front of the answer. Only a block before all text counts; a later tag is ordinary text. A block without an end is all
 * reasoning. Holds back at most a partial tag and the white space before it.
 * @param takeReasoning receives the text inside the block.
 */
export function createThinkFilter(takeReasoning: (text: string) => void) {
  let state: FilterState = "start";
  let held = "";

  /** Processes as much of the held text as possible. Returns the text outside the block. */
  function advance(): string {
    while (held !== "") {
      if (state === "block") {
        if (!takeBlock()) return "";
        continue;
      }
      if (state === "behind") held = held.trimStart();
      const text = held.trimStart();
      if (held.length - text.length > SPACE_LENGTH_MAX) return settle();
      if (text.startsWith(OPEN_TAG)) {
        state = "block";
        held = text.slice(OPEN_TAG.length);
      } else return OPEN_TAG.startsWith(text) ? "" : settle();
    }
    return "";
  }

  /** Consumes text that can only be reasoning; returns false while the block is open. */
  function takeBlock(): boolean {
    const end = held.indexOf(CLOSE_TAG);
    const length = end === -1 ? held.length - countTagStart(held) : end;
    if (length > 0) takeReasoning(held.slice(0, length));
    held = held.slice(end === -1 ? length : end + CLOSE_TAG.length);
    if (end !== -1) state = "behind";
    return end !== -1;
  }

  function settle(): string {
    const text = held;
    state = "text";
    held = "";
    return text;
  }

  return {
    /** Returns the text that can be shown now. */
    push(text: string): string {
      if (state === "text") return text;
      held += text;
      return advance();
    },
    /** Returns the held text, at the end of the answer. */
    end(): string {
      if (state === "text" || held === "") return "";
      // White space alone is not an answer.
      if (state !== "block") return held.trim() === "" ? "" : settle();
      takeReasoning(held);
      held = "";
      return "";
    },
  };
}

/** Length of the longest end of the text that may begin the closing tag. */
function countTagStart(text: string): number {
  const lengthMax = Math.min(text.length, CLOSE_TAG.length - 1);
  for (let length = lengthMax; length > 0; length -= 1) if (text.endsWith(CLOSE_TAG.slice(0, length))) return length;
  return 0;
}
