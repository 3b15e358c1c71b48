import { build } from "../../lib/build.ts";
import { formatQuantity } from "../selftest/figures.ts";
import type { Finding, FindingStatus } from "./finding.ts";

/** What `parley doctor --json` prints. */
export type DoctorReport = {
  version: string;
  commit: string;
  /** Whether there is no problem; warnings don't count. */
  healthy: boolean;
  duration_ms: number;
  counts: Record<FindingStatus, number>;
  findings: ({ check: string } & Finding)[];
};

type Results = { name: string; findings: Finding[] }[];

/** @param mask hides known secrets, as the last line of defense: errors of libraries may contain their input. */
export function createDoctorReport(results: Results, durationMs: number, mask: (text: string) => string): DoctorReport {
  const findings = results.flatMap(({ name, findings }) =>
    findings.map(({ status, message }) => ({ check: name, status, message: mask(toLine(message)) })),
  );
  const count = (wanted: FindingStatus) => findings.filter(({ status }) => status === wanted).length;
  const counts = { ok: count("ok"), warning: count("warning"), problem: count("problem"), skipped: count("skipped") };
  return {
    version: build.version,
    commit: build.commit,
    healthy: counts.problem === 0,
    duration_ms: Math.round(durationMs),
    counts,
    findings,
  };
}

/** Responses of servers are part of some messages: they must not start a line, or send terminal escape codes. */
const toLine = (text: string): string =>
  text
    .replaceAll(/\s+/g, " ")
    .replaceAll(/\p{Cc}/gu, "")
    .trim();

/** The report as one line for each finding. */
export function printDoctorReport({ version, commit, duration_ms, counts, findings }: DoctorReport): string {
  const columns = Math.max(...findings.map(({ check }) => check.length));
  const lines = findings.map(
    ({ check, status, message }) => `${status.toUpperCase().padEnd(7)}  ${check.padEnd(columns)}  ${message}`,
  );
  const summary = `${formatQuantity(counts.problem, "problem")}, ${formatQuantity(counts.warning, "warning")}, ${counts.ok} OK, ${counts.skipped} skipped`;
  return [
    `Parley ${version} (${commit})`,
    "",
    ...lines,
    "",
    `${summary} (${(duration_ms / 1_000).toFixed(1)} s).`,
  ].join("\n");
}
