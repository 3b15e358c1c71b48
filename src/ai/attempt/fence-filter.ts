/** Maximum length of a fence line, in UTF-16 code units. A longer line is text. */
const LINE_CHARS_MAX = 32;
/** Matches whitespace and a complete or partial closing fence. */
const closingFence = /\s*(?:`{1,3}\s*)?$/;
/** Matches a complete opening fence. */
const openingFence = /^\s*```[\w-]*[ \t]*\r?\n/;
/** Matches a possible start of an opening fence. */
const partialOpeningFence = /^\s*(?:`{1,2}|```[\w-]*[ \t]*\r?)?$/;

/**
 * Removes the code fence that some models put around JSON. Buffers at most the two fence lines.
 */
export function createFenceFilter() {
  let state: "start" | "fenced" | "text" = "start";
  let buffer = "";

  return {
    /** Returns the text that is ready to be shown. */
    push(text: string): string {
      if (state === "text") return text;
      buffer += text;
      if (state === "start") {
        const fence = openingFence.exec(buffer)?.[0];
        if (fence === undefined && buffer.length <= LINE_CHARS_MAX && partialOpeningFence.test(buffer)) return "";
        state = fence === undefined ? "text" : "fenced";
        buffer = buffer.slice(fence?.length ?? 0);
        if (state === "text") return this.end();
      }
      const tail = buffer.slice(-LINE_CHARS_MAX);
      const readyLength = buffer.length - tail.length + tail.search(closingFence);
      const readyText = buffer.slice(0, readyLength);
      buffer = buffer.slice(readyLength);
      return readyText;
    },
    /** Returns the buffered text at the end of the answer. */
    end(): string {
      const isFence = state === "fenced" && buffer.trim() === "```";
      const remainingText = isFence ? "" : buffer;
      buffer = "";
      return remainingText;
    },
  };
}
