/** A cell: numbers stay numbers; null is an empty cell. */
export type CsvCell = string | number | null;

/** Texts that a spreadsheet runs as a formula: also after white space, and with full-width signs. */
const formula = /^(?:[\t\r\n]|[\s\p{Cf}\p{Cc}]*[=+\-@＝＋－＠])/u;

function mapToText(cell: CsvCell): string {
  if (cell === null) return "";
  if (typeof cell === "number") return String(cell);
  const text = formula.test(cell) ? `'${cell}` : cell;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

const mapToLine = (cells: readonly CsvCell[]): string => `${cells.map(mapToText).join(",")}\r\n`;

/**
 * A table as CSV (RFC 4180) with a line of names. A text that a spreadsheet would run as a formula begins with an
 * apostrophe.
 */
export const createCsv = (names: readonly string[], rows: readonly (readonly CsvCell[])[]): string =>
  [names, ...rows].map(mapToLine).join("");
