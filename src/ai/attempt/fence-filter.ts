/** Longest opening line of a fence, and longest text after the closing one, in UTF-16 units. Anything longer is text. */
const LINE_CHARS_MAX = 32;
/** White space, then the closing fence as far as it has arrived. */
const closing = /\s*(?:`{1,3}\s*)?$/;
const opening = /^\s*```[\w-]*[ \t]*\r?\n/;
/** Matches text that may still become an opening fence. */
const openingStart = /^\s*(?:`{1,2}|```[\w-]*[ \t]*\r?)?$/;

/**
 * Removes the code fence around a text that is a single code block: some models wrap JSON in one. Holds back at most the two
 * fence lines.
 */
export function createFenceFilter() {
  let place: "start" | "fenced" | "text" = "start";
  let held = "";

  return {
    /** Returns the text that can be shown now. */
    push(text: string): string {
      if (place === "text") return text;
      held += text;
      if (place === "start") {
        const fence = opening.exec(held)?.[0];
        if (fence === undefined && held.length <= LINE_CHARS_MAX && openingStart.test(held)) return "";
        place = fence === undefined ? "text" : "fenced";
        held = held.slice(fence?.length ?? 0);
        if (place === "text") return this.end();
      }
      const tail = held.slice(-LINE_CHARS_MAX);
      const ready = held.length - tail.length + tail.search(closing);
      const shown = held.slice(0, ready);
      held = held.slice(ready);
      return shown;
    },
    /** Returns the held text, at the end of the answer. */
    end(): string {
      const isFence = place === "fenced" && held.trim() === "```";
      const rest = isFence ? "" : held;
      held = "";
      return rest;
    },
  };
}
