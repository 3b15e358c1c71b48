/**
 * Tracks which text parts of a response were already pushed. The Responses API sends each text part several times: in deltas,
 * and at the end of the part, of its item and of the response. Compatible servers may omit any of these.
 */
export function createOutputTextTracker() {
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
    /** Adds a complete text part. Returns null if it was already pushed. Also compares the text, because indexes may differ. */
    addComplete(output: unknown, content: unknown, text: string): string | null {
      if (positions.has(formatPosition(output, content)) || pushedText.includes(text)) return null;
      add(output, content, text);
      return text;
    },
  };
}

const formatPosition = (...indexes: unknown[]): string =>
  indexes.map((index) => (typeof index === "number" ? index : "-")).join(":");
