/** A Markdown table. A bar in a cell would end it, so bars are escaped. */
export const createMarkdownTable = (head: readonly string[], rows: readonly (readonly (string | number)[])[]): string =>
  [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.map(escapeCell).join(" | ")} |`).join("\n");

const escapeCell = (cell: string | number): string => String(cell).replaceAll("|", "\\|").replaceAll("\n", " ");
