import { availableParallelism } from "node:os";
import { build } from "../../lib/build.ts";
import type { CheckResult, Measurements } from "./check.ts";

/** The output of `parley selftest --json`. */
export type Report = {
  version: string;
  commit: string;
  platform: string;
  cpus: number;
  started_at: string;
  duration_ms: number;
  passed: boolean;
  /** Settings of the tested servers that differ from the defaults. */
  settings: Record<string, string>;
  checks: {
    name: string;
    claim: string;
    status: CheckResult["status"];
    duration_ms: number;
    summary: string;
    measured: Measurements;
    problems: string[];
  }[];
  /** The folder with the server logs; null if it was removed. */
  logs: string | null;
};

type Input = {
  startedAt: Date;
  durationMs: number;
  settings: Record<string, string>;
  results: readonly CheckResult[];
  logs: string | null;
};

/** Creates the report. The self-test passes only if every check was run and passed. */
export function createReport({ startedAt, durationMs, settings, results, logs }: Input): Report {
  return {
    version: build.version,
    commit: build.commit,
    platform: `${process.platform}-${process.arch}`,
    cpus: availableParallelism(),
    started_at: startedAt.toISOString(),
    duration_ms: Math.round(durationMs),
    passed: results.length > 0 && results.every(({ status }) => status === "passed"),
    settings,
    checks: results.map(({ name, claim, status, durationMs, summary, measured, problems }) => ({
      name,
      claim,
      status,
      duration_ms: durationMs,
      summary,
      measured,
      problems,
    })),
    logs,
  };
}

const labels = { passed: "PASS", failed: "FAIL", not_run: "NOT RUN" } as const;
const LABEL_CHARS = 8;
const NAME_CHARS = 13;
const TIME_CHARS = 7;
const LINE_CHARS = 120;
const INDENT = " ".repeat(LABEL_CHARS + NAME_CHARS + TIME_CHARS + 2);

/** Formats the result of a check as one line, for output that isn't a terminal. */
export const describeResult = ({ status, name, durationMs, summary }: CheckResult): string =>
  `${labels[status]} ${name} (${formatSeconds(durationMs)}): ${summary}`;

/** Formats the report as plain text. */
export function formatReport(report: Report): string {
  const { version, commit, platform, cpus, checks, duration_ms, settings, logs } = report;
  const passedCount = checks.filter(({ status }) => status === "passed").length;
  const lines = [`Parley ${version} (${commit}) on ${platform}, ${cpus} CPUs`, ""];
  for (const { status, name, claim, duration_ms, summary, problems } of checks) {
    const time = status === "not_run" ? "" : formatSeconds(duration_ms);
    lines.push(
      `${labels[status].padEnd(LABEL_CHARS)}${name.padEnd(NAME_CHARS)}${time.padStart(TIME_CHARS)}  ${wrapText(claim, INDENT)}`,
      `${INDENT}${wrapText(summary, INDENT)}`,
      ...problems.map((problem) => `${INDENT}- ${wrapText(problem, `${INDENT}  `)}`),
    );
  }
  const names = Object.keys(settings).join(", ");
  lines.push(
    "",
    `${passedCount} of ${checks.length} claims hold (${formatSeconds(duration_ms)}).`,
    wrapText(`The servers ran with default settings, except ${names}.`, ""),
  );
  if (logs !== null) lines.push(`The server logs are in ${logs}.`);
  return lines.join("\n");
}

/** Wraps text at word boundaries and indents all lines except the first. */
function wrapText(text: string, indent: string): string {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && indent.length + line.length + word.length >= LINE_CHARS) {
      lines.push(line);
      line = "";
    }
    line += line === "" ? word : ` ${word}`;
  }
  return [...lines, line].join(`\n${indent}`);
}

const formatSeconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`;
