const OPEN_TAG = "<think>";
const CLOSE_TAG = "</think>";

/** White space before a think block that is held back, in UTF-16 units; after more of it the text is an answer. */
const SPACE_LENGTH_MAX = 64;

/** What a model writes at the moment. `start` and `behind`: before any text, without and after a block. */
type Place = "start" | "block" | "behind" | "text";

/**
 * Takes the think block off the beginning of a model's text: some models, and servers that do not know them, put what the
 * model thinks in front of the answer. Only a block in front of all text is one; a tag further on is a text that speaks of
 * tags. A block that never ends is all thinking. At most the beginning of a tag and the space before it are held back.
 * @param takeReasoning takes what is in the block.
 */
export function createThinkFilter(takeReasoning: (text: string) => void) {
  let place: Place = "start";
  let held = "";

  /** Decides as much as it can of what is held. Returns the text that is none of the block. */
  function advance(): string {
    while (held !== "") {
      if (place === "block") {
        if (!takeBlock()) return "";
        continue;
      }
      if (place === "behind") held = held.trimStart();
      const text = held.trimStart();
      if (held.length - text.length > SPACE_LENGTH_MAX) return settle();
      if (text.startsWith(OPEN_TAG)) {
        place = "block";
        held = text.slice(OPEN_TAG.length);
      } else return OPEN_TAG.startsWith(text) ? "" : settle();
    }
    return "";
  }

  /** Takes what can only be thinking; false while the block goes on. */
  function takeBlock(): boolean {
    const end = held.indexOf(CLOSE_TAG);
    const length = end === -1 ? held.length - countTagStart(held) : end;
    if (length > 0) takeReasoning(held.slice(0, length));
    held = held.slice(end === -1 ? length : end + CLOSE_TAG.length);
    if (end !== -1) place = "behind";
    return end !== -1;
  }

  function settle(): string {
    const text = held;
    place = "text";
    held = "";
    return text;
  }

  return {
    /** What of the text may be shown now. */
    push(text: string): string {
      if (place === "text") return text;
      held += text;
      return advance();
    },
    /** What was held back, at the end of the text. */
    end(): string {
      if (place === "text" || held === "") return "";
      // A text of nothing but space is none.
      if (place !== "block") return held.trim() === "" ? "" : settle();
      takeReasoning(held);
      held = "";
      return "";
    },
  };
}

/** How much of the end of a text may be the beginning of the closing tag. */
function countTagStart(text: string): number {
  const lengthMax = Math.min(text.length, CLOSE_TAG.length - 1);
  for (let length = lengthMax; length > 0; length -= 1) if (text.endsWith(CLOSE_TAG.slice(0, length))) return length;
  return 0;
}
