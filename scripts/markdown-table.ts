/** Creates a Markdown table. Bars in cells are escaped, because a bar ends a cell. */
export const createMarkdownTable = (head: readonly string[], rows: readonly (readonly (string | number)[])[]): string =>
  [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.map(escapeCell).join(" | ")} |`).join("\n");

const escapeCell = (cell: string | number): string => String(cell).replaceAll("|", "\\|").replaceAll("\n", " ");
