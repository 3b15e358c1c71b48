/** The value of a cell. Null is an empty cell. */
export type CsvCell = string | number | null;

/** Matches text that a spreadsheet would run as a formula, including leading whitespace and full-width signs. */
const formulaPattern = /^(?:[\t\r\n]|[\s\p{Cf}\p{Cc}]*[=+\-@＝＋－＠])/u;

function formatCell(cell: CsvCell): string {
  if (cell === null) return "";
  if (typeof cell === "number") return String(cell);
  const text = formulaPattern.test(cell) ? `'${cell}` : cell;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

const formatLine = (cells: readonly CsvCell[]): string => `${cells.map(formatCell).join(",")}\r\n`;

/**
 * Formats a table as CSV (RFC 4180) with a header line. Text that a spreadsheet would run as a formula is prefixed with an
 * apostrophe.
 */
export const createCsv = (names: readonly string[], rows: readonly (readonly CsvCell[])[]): string =>
  [names, ...rows].map(formatLine).join("");
