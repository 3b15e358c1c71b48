/** A line of the table: what Parley did, beside what it is compared with. */
export type Line = {
  what: string;
  unit: string;
  parley: number;
  /** Absent where there is nothing to compare with. */
  peer?: { name: string; value: number };
  /** Of Parley's figure to the peer's, or of the figure itself in its unit; a missed one fails the run. */
  bound?: { atLeast: number } | { atMost: number } | { upTo: number };
};

/** What a row has measured, and what a reader must know to judge it: who used how much CPU, how many messages. */
export type RowReport = { lines: Line[]; notes: string[] };

export const ratioOf = ({ parley, peer }: Line): number => (peer ? parley / peer.value : Number.NaN);

export function isMissed(line: Line): boolean {
  if (!line.bound) return false;
  if ("upTo" in line.bound) return !(line.parley <= line.bound.upTo);
  const ratio = ratioOf(line);
  return !("atLeast" in line.bound ? ratio >= line.bound.atLeast : ratio <= line.bound.atMost);
}

const header = ["what", "Parley", "beside it", "", "ratio", "bound"];

export function printLines(lines: Line[]): string {
  const rows = lines.map((line) => [
    line.what,
    `${show(line.parley)} ${line.unit}`,
    line.peer ? `${show(line.peer.value)} ${line.unit}` : "",
    line.peer?.name ?? "",
    line.peer ? `${show(ratioOf(line))}×` : "",
    describeBound(line),
  ]);
  const widths = header.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const print = (cells: string[]) =>
    cells
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("  ")
      .trimEnd();
  return [print(header), print(widths.map((width) => "-".repeat(width))), ...rows.map(print)].join("\n");
}

function describeBound(line: Line): string {
  if (!line.bound) return "";
  let text: string;
  if ("upTo" in line.bound) text = `≤ ${line.bound.upTo} ${line.unit}`;
  else text = "atLeast" in line.bound ? `≥ ${line.bound.atLeast}×` : `≤ ${line.bound.atMost}×`;
  return `${text} ${isMissed(line) ? "MISSED" : "met"}`;
}

/** Three digits that matter, and no more than two behind the point. */
export function show(value: number): string {
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}
