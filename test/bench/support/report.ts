/** A line of the table: Parley's figure, and that of a peer. */
export type Line = {
  what: string;
  unit: string;
  parley: number;
  /** Absent if there is no peer to compare with. */
  peer?: { name: string; value: number };
  /** A missed bound fails the bench. */
  bound?: Bound;
};

type Bound =
  /** Parley's figure divided by the peer's. */
  | { atLeast: number }
  | { atMost: number }
  /** Parley's figure, in its unit. */
  | { upTo: number }
  /** How far Parley's figure may exceed the peer's, in its unit. */
  | { abovePeer: number };

/** The results of a row, and notes that are needed to judge them, such as CPU times and the number of messages. */
export type RowReport = { lines: Line[]; notes: string[] };

export const ratioOf = ({ parley, peer }: Line): number => (peer ? parley / peer.value : Number.NaN);

export function isMissed(line: Line): boolean {
  if (!line.bound) return false;
  if ("upTo" in line.bound) return !(line.parley <= line.bound.upTo);
  if ("abovePeer" in line.bound) return !(line.parley - (line.peer?.value ?? Number.NaN) <= line.bound.abovePeer);
  const ratio = ratioOf(line);
  return !("atLeast" in line.bound ? ratio >= line.bound.atLeast : ratio <= line.bound.atMost);
}

/** Empty if the peer's figure is zero or within the noise, because a ratio would be meaningless. */
const showRatio = (line: Line): string => (line.peer && line.peer.value > 0 ? `${show(ratioOf(line))}×` : "");

const header = ["what", "Parley", "beside it", "", "ratio", "bound"];

export function printLines(lines: Line[]): string {
  const rows = lines.map((line) => [
    line.what,
    `${show(line.parley)} ${line.unit}`,
    line.peer ? `${show(line.peer.value)} ${line.unit}` : "",
    line.peer?.name ?? "",
    showRatio(line),
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
  return line.bound ? `${formatBound(line, line.bound)} ${isMissed(line) ? "MISSED" : "met"}` : "";
}

function formatBound({ unit, peer }: Line, bound: Bound): string {
  if ("upTo" in bound) return `≤ ${bound.upTo} ${unit}`;
  if ("abovePeer" in bound) return `≤ ${peer?.name} + ${bound.abovePeer} ${unit}`;
  return "atLeast" in bound ? `≥ ${bound.atLeast}×` : `≤ ${bound.atMost}×`;
}

/** Three significant digits, and at most two decimals. */
export function show(value: number): string {
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}
