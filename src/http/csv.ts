/** A cell: numbers stay numbers; null is an empty cell. */
export type CsvCell = string | number | null;

/** Text that a spreadsheet would run as a formula: also after white space, and with full-width signs. */
const formula = /^(?:[\t\r\n]|[\s\p{Cf}\p{Cc}]*[=+\-@＝＋－＠])/u;

function mapToText(cell: CsvCell): string {
  if (cell === null) return "";
  if (typeof cell === "number") return String(cell);
  const text = formula.test(cell) ? `'${cell}` : cell;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

const mapToLine = (cells: readonly CsvCell[]): string => `${cells.map(mapToText).join(",")}\r\n`;

/**
 * A table as CSV (RFC 4180) with a header line. An apostrophe is put before text that a spreadsheet would run as a formula.
 */
export const createCsv = (names: readonly string[], rows: readonly (readonly CsvCell[])[]): string =>
  [names, ...rows].map(mapToLine).join("");
