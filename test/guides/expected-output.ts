const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/;
const TIME = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z/;
const loose = [UUID, TIME];

/** Node's notes about experimental features, which a page doesn't show. */
const NODE_NOTES = /^\((?:node:\d+\)|Use `node --trace).*\n/gm;

/**
 * A pattern for what a page shows. `…` stands for anything within a line, a line of `…` alone for any number of lines;
 * an id stands for any id, a time for any time. Spaces at the ends of lines don't count.
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
  const special = new RegExp(`(…|${loose.map(({ source }) => source).join("|")})`);
  return line
    .split(special)
    .map((part) => {
      if (part === "…") return "[^\\n]*";
      const same = loose.find(({ source }) => new RegExp(`^(?:${source})$`).test(part));
      return same ? same.source : part.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&");
    })
    .join("");
}

/** Whether the whole output is what the page shows. */
export function isExpected(output: string, expected: string): boolean {
  const text = output.replaceAll(NODE_NOTES, "").trim();
  return new RegExp(`^${createPattern(expected.trim())}$`).test(text);
}

/** Where the expected lines end in an output that grows, or -1 while they aren't there. */
export function findExpected(output: string, expected: string): number {
  const match = new RegExp(`^${createPattern(expected.trim())}$`, "m").exec(output);
  return match ? match.index + match[0].length : -1;
}
