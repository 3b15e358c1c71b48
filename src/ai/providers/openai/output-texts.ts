/**
 * The texts of one response, as far as they were handed on. The Responses API says each text several times: in deltas, at
 * the end of its part, of its item, and of the response. Servers that speak it may leave any of these out.
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
    /** Takes a delta. */
    add,
    /** Takes a whole text. @returns it, or null if its deltas were handed on. Servers differ in the numbers of places. */
    addWhole(output: unknown, content: unknown, text: string): string | null {
      if (places.has(nameOf(output, content)) || written.includes(text)) return null;
      add(output, content, text);
      return text;
    },
  };
}

const nameOf = (...indexes: unknown[]): string =>
  indexes.map((index) => (typeof index === "number" ? index : "-")).join(":");
