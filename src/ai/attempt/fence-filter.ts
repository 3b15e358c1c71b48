/** UTF-16 units of a fence's first line, and of what may stand behind its last one; more is text. */
const LINE_CHARS_MAX = 32;
/** White space, and behind it the end of a fence, as far as it has come. */
const closing = /\s*(?:`{1,3}\s*)?$/;
const opening = /^\s*```[\w-]*[ \t]*\r?\n/;
/** Everything that a fence may still begin with. */
const openingStart = /^\s*(?:`{1,2}|```[\w-]*[ \t]*\r?)?$/;

/**
 * Takes the fence off a text that is one code block, since some models put JSON between fences. At most the two lines are
 * held back.
 */
export function createFenceFilter() {
  let place: "start" | "fenced" | "text" = "start";
  let held = "";

  return {
    /** What of the text may be shown now. */
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
    /** What was held back, at the end of the text. */
    end(): string {
      const isFence = place === "fenced" && held.trim() === "```";
      const rest = isFence ? "" : held;
      held = "";
      return rest;
    },
  };
}
