/** A line of the table: Parley's figure, and the figure of the program it is compared with. */
export type Line = {
  label: string;
  unit: string;
  parley: number;
  /** The program that Parley is compared with, if any. */
  peer?: { name: string; value: number };
  /** A missed target fails the bench. */
  target?: LineTarget;
};

type LineTarget =
  /** The minimum or maximum of the ratio, which is Parley's figure divided by the peer's. */
  | { atLeast: number }
  | { atMost: number }
  /** The maximum of Parley's figure, in its unit. */
  | { upTo: number }
  /** The maximum by which Parley's figure may exceed the peer's, in their unit. */
  | { abovePeer: number };

/** The results of a benchmark, with notes that are needed to interpret them, such as CPU times. */
export type BenchmarkReport = { lines: Line[]; notes: string[] };

export const computeRatio = ({ parley, peer }: Line): number => (peer ? parley / peer.value : Number.NaN);

export function isTargetMissed(line: Line): boolean {
  if (!line.target) return false;
  if ("upTo" in line.target) return !(line.parley <= line.target.upTo);
  if ("abovePeer" in line.target) return !(line.parley - (line.peer?.value ?? Number.NaN) <= line.target.abovePeer);
  const ratio = computeRatio(line);
  return !("atLeast" in line.target ? ratio >= line.target.atLeast : ratio <= line.target.atMost);
}

/** Returns an empty string if the peer's figure isn't positive, because the ratio would be meaningless. */
const formatRatio = (line: Line): string =>
  line.peer && line.peer.value > 0 ? `${formatNumber(computeRatio(line))}×` : "";

const columnTitles = ["what", "Parley", "compared with", "", "ratio", "target"];

export function formatTable(lines: Line[]): string {
  const rows = lines.map((line) => [
    line.label,
    `${formatNumber(line.parley)} ${line.unit}`,
    line.peer ? `${formatNumber(line.peer.value)} ${line.unit}` : "",
    line.peer?.name ?? "",
    formatRatio(line),
    describeTarget(line),
  ]);
  const widths = columnTitles.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  const formatRow = (cells: string[]) =>
    cells
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("  ")
      .trimEnd();
  return [formatRow(columnTitles), formatRow(widths.map((width) => "-".repeat(width))), ...rows.map(formatRow)].join(
    "\n",
  );
}

function describeTarget(line: Line): string {
  return line.target ? `${formatTarget(line, line.target)} ${isTargetMissed(line) ? "MISSED" : "met"}` : "";
}

function formatTarget({ unit, peer }: Line, target: LineTarget): string {
  if ("upTo" in target) return `≤ ${target.upTo} ${unit}`;
  if ("abovePeer" in target) return `≤ ${peer?.name} + ${target.abovePeer} ${unit}`;
  return "atLeast" in target ? `≥ ${target.atLeast}×` : `≤ ${target.atMost}×`;
}

/** Formats a number with three significant digits and at most two decimals. */
export function formatNumber(value: number): string {
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}
