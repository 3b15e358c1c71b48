import { build } from "../../lib/build.ts";
import { formatQuantity } from "../selftest/measurements.ts";
import type { Finding, FindingStatus } from "./finding.ts";

/** The output of `parley doctor --json`. */
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

/** @param mask hides known secrets, as a last line of defense: error messages from libraries may contain their input. */
export function createDoctorReport(results: Results, durationMs: number, mask: (text: string) => string): DoctorReport {
  const findings = results.flatMap(({ name, findings }) =>
    findings.map(({ status, message }) => ({ check: name, status, message: mask(toSingleLine(message)) })),
  );
  const countByStatus = (status: FindingStatus) => findings.filter((finding) => finding.status === status).length;
  const counts = {
    ok: countByStatus("ok"),
    warning: countByStatus("warning"),
    problem: countByStatus("problem"),
    skipped: countByStatus("skipped"),
  };
  return {
    version: build.version,
    commit: build.commit,
    healthy: counts.problem === 0,
    duration_ms: Math.round(durationMs),
    counts,
    findings,
  };
}

/** Removes line breaks and control characters, because some messages contain untrusted server responses. */
const toSingleLine = (text: string): string =>
  text
    .replaceAll(/\s+/g, " ")
    .replaceAll(/\p{Cc}/gu, "")
    .trim();

/** Formats the report with one line for each finding. */
export function formatDoctorReport({ version, commit, duration_ms, counts, findings }: DoctorReport): string {
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
