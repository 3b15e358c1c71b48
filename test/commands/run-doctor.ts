import { expect } from "bun:test";
import { runParley } from "./run-parley.ts";

type Finding = { check: string; status: string; message: string };

/** All secrets in these tests contain this string, which must never be printed. */
export const TEST_SECRET = "marked-secret-Zx81";

/** A function that runs the executable, for example in an installation's folder. */
type Run = (args: string[], env: Record<string, string>) => Promise<{ code: number; stdout: string; stderr: string }>;

const runInTemporaryFolder: Run = (args, env) => runParley(args, { env });

/** Runs `parley doctor --json`. Checks that the exit code matches the report, and that no secrets are printed. */
export async function runDoctor(
  env: Record<string, string>,
  { args = [] as string[], run = runInTemporaryFolder } = {},
) {
  const startedAtMs = performance.now();
  const { code, stdout, stderr } = await run(["doctor", "--json", ...args], { PORT: "0", ...env });
  const durationMs = performance.now() - startedAtMs;
  expect(stderr).toBe("");
  expect(stdout).not.toContain(TEST_SECRET);
  const report = JSON.parse(stdout) as { healthy: boolean; findings: Finding[]; counts: Record<string, number> };
  expect(code).toBe(report.healthy ? 0 : 1);
  expect(report.healthy).toBe(!report.findings.some(({ status }) => status === "problem"));
  for (const { message } of report.findings) expect(message).toMatch(/^\S.*[.?]$/);
  return {
    code,
    durationMs,
    report,
    /** Lists a check's findings as `status: message`. */
    listLines: (check: string): string[] =>
      report.findings
        .filter((finding) => finding.check === check)
        .map(({ status, message }) => `${status}: ${message}`),
    /** Lists the problems and warnings of all checks except these. */
    listIssues: (...ignoredChecks: string[]): Finding[] =>
      report.findings.filter(
        ({ check, status }) => (status === "problem" || status === "warning") && !ignoredChecks.includes(check),
      ),
  };
}
