const OPEN_TAG = "<think>";
const CLOSE_TAG = "</think>";

/** Maximum whitespace before a think block, in UTF-16 code units. After more whitespace, the tag is ordinary text. */
const SPACE_LENGTH_MAX = 64;

/** What the model is writing. `after_block` is the whitespace between the block and the text. */
type FilterState = "start" | "block" | "after_block" | "text";

/**
 * Separates the `<think>` block at the start of a model's text from the answer. Later tags are ordinary text. If the block
 * is never closed, all of the text is reasoning. Buffers at most a partial tag and the whitespace before it.
 * @param onReasoning receives the text inside the block.
 */
export function createThinkFilter(onReasoning: (text: string) => void) {
  let state: FilterState = "start";
  let buffer = "";

  /** Processes as much of the buffer as possible. Returns the text outside the block. */
  function processBuffer(): string {
    while (buffer !== "") {
      if (state === "block") {
        if (!processBlock()) return "";
        continue;
      }
      if (state === "after_block") buffer = buffer.trimStart();
      const text = buffer.trimStart();
      if (buffer.length - text.length > SPACE_LENGTH_MAX) return switchToText();
      if (text.startsWith(OPEN_TAG)) {
        state = "block";
        buffer = text.slice(OPEN_TAG.length);
      } else return OPEN_TAG.startsWith(text) ? "" : switchToText();
    }
    return "";
  }

  /** Passes on the buffered reasoning. Returns whether the block is closed. */
  function processBlock(): boolean {
    const end = buffer.indexOf(CLOSE_TAG);
    const length = end === -1 ? buffer.length - getPartialTagLength(buffer) : end;
    if (length > 0) onReasoning(buffer.slice(0, length));
    buffer = buffer.slice(end === -1 ? length : end + CLOSE_TAG.length);
    if (end !== -1) state = "after_block";
    return end !== -1;
  }

  function switchToText(): string {
    const text = buffer;
    state = "text";
    buffer = "";
    return text;
  }

  return {
    /** Returns the text that is ready to be shown. */
    push(text: string): string {
      if (state === "text") return text;
      buffer += text;
      return processBuffer();
    },
    /** Returns the buffered text at the end of the answer. */
    end(): string {
      if (state === "text" || buffer === "") return "";
      // Whitespace alone is not an answer.
      if (state !== "block") return buffer.trim() === "" ? "" : switchToText();
      onReasoning(buffer);
      buffer = "";
      return "";
    },
  };
}

/** Returns the length of the longest suffix of the text that is a prefix of the closing tag. */
function getPartialTagLength(text: string): number {
  const lengthMax = Math.min(text.length, CLOSE_TAG.length - 1);
  for (let length = lengthMax; length > 0; length -= 1) if (text.endsWith(CLOSE_TAG.slice(0, length))) return length;
  return 0;
}
