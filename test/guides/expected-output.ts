const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/;
const TIME = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z/;
const variableValues = [UUID, TIME];

/** Node's warnings about experimental features, which pages omit. */
const NODE_NOTES = /^\((?:node:\d+\)|Use `node --trace).*\n/gm;

/**
 * Creates a pattern for the output on a page. `…` matches anything within a line. A line with only `…` matches any number
 * of lines. An id matches any id, and a time matches any time. Trailing spaces are ignored.
 */
function createPattern(expected: string): string {
  const lines = expected.trimEnd().split("\n");
  return lines
    .map((line, index) => {
      const end = index === lines.length - 1 ? "" : "\\n";
      return line.trim() === "…" ? `(?:[^\\n]*\\n?)*?` : `${createLinePattern(line.trimEnd())}[ \\t]*${end}`;
    })
    .join("");
}

function createLinePattern(line: string): string {
  const specialPattern = new RegExp(`(…|${variableValues.map(({ source }) => source).join("|")})`);
  return line
    .split(specialPattern)
    .map((part) => {
      if (part === "…") return "[^\\n]*";
      const variableValue = variableValues.find(({ source }) => new RegExp(`^(?:${source})$`).test(part));
      return variableValue ? variableValue.source : part.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&");
    })
    .join("");
}

/** Returns whether the complete output matches the output on a page. */
export function isExpected(output: string, expected: string): boolean {
  const text = output.replaceAll(NODE_NOTES, "").trim();
  return new RegExp(`^${createPattern(expected.trim())}$`).test(text);
}

/** Finds the index at which the expected lines end in an output, or -1 if they are missing. */
export function findExpected(output: string, expected: string): number {
  const match = new RegExp(`^${createPattern(expected.trim())}$`, "m").exec(output);
  return match ? match.index + match[0].length : -1;
}
