/**
 * Tracks which texts of a response were passed on. The Responses API sends each text several times: in deltas, and at the
 * end of its part, its item and the response. Compatible servers may omit any of these.
 */
export function createOutputTexts() {
  let written = "";
  const places = new Set<string>();
  let lastPlace: [output: unknown, content: unknown] | null = null;

  function add(output: unknown, content: unknown, text: string): void {
    written += text;
    if (lastPlace && lastPlace[0] === output && lastPlace[1] === content) return;
    lastPlace = [output, content];
    places.add(nameOf(output, content));
  }

  return {
    isEmpty: (): boolean => written === "",
    /** Reads a delta. */
    add,
    /** Reads a whole text. @returns it, or null if its deltas were passed on. Servers number parts differently. */
    addWhole(output: unknown, content: unknown, text: string): string | null {
      if (places.has(nameOf(output, content)) || written.includes(text)) return null;
      add(output, content, text);
      return text;
    },
  };
}

const nameOf = (...indexes: unknown[]): string =>
  indexes.map((index) => (typeof index === "number" ? index : "-")).join(":");
