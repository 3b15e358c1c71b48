/** Creates a Markdown table. Escapes pipes in cells, because a pipe ends a cell. */
export const createMarkdownTable = (
  header: readonly string[],
  rows: readonly (readonly (string | number)[])[],
): string =>
  [header, header.map(() => "---"), ...rows].map((cells) => `| ${cells.map(escapeCell).join(" | ")} |`).join("\n");

const escapeCell = (cell: string | number): string => String(cell).replaceAll("|", "\\|").replaceAll("\n", " ");
