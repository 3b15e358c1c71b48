/**
 * Tracks which texts of a response were already pushed. The Responses API sends each text several times: in deltas, and
 * again at the end of its part, its item and the response. Compatible servers may omit any of these.
 */
export function createOutputTexts() {
  let pushedText = "";
  const positions = new Set<string>();
  let lastPosition: [output: unknown, content: unknown] | null = null;

  function add(output: unknown, content: unknown, text: string): void {
    pushedText += text;
    if (lastPosition && lastPosition[0] === output && lastPosition[1] === content) return;
    lastPosition = [output, content];
    positions.add(formatPosition(output, content));
  }

  return {
    isEmpty: (): boolean => pushedText === "",
    /** Adds a delta. */
    add,
    /** Adds a complete text. Returns null if it was already pushed. Also compares the texts, since indexes may differ. */
    addComplete(output: unknown, content: unknown, text: string): string | null {
      if (positions.has(formatPosition(output, content)) || pushedText.includes(text)) return null;
      add(output, content, text);
      return text;
    },
  };
}

const formatPosition = (...indexes: unknown[]): string =>
  indexes.map((index) => (typeof index === "number" ? index : "-")).join(":");
