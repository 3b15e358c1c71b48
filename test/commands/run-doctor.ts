import { expect } from "bun:test";
import { runParley } from "./run-parley.ts";

type Finding = { check: string; status: string; message: string };

/** Secrets in the settings of these tests; none of them may be printed. */
export const MARK = "marked-secret-Zx81";

/** The doctor of a site: `run` starts the executable in its folder. */
type Run = (args: string[], env: Record<string, string>) => Promise<{ code: number; output: string; errors: string }>;

const runAnywhere: Run = async (args, env) => {
  const { code, stdout, stderr } = await runParley(args, { env });
  return { code, output: stdout, errors: stderr };
};

/** Runs `parley doctor --json`, and expects an exit code that fits the report, and no secret. */
export async function runDoctor(env: Record<string, string>, { args = [] as string[], run = runAnywhere } = {}) {
  const startedAtMs = performance.now();
  const { code, output, errors } = await run(["doctor", "--json", ...args], { PORT: "0", ...env });
  const tookMs = performance.now() - startedAtMs;
  expect(errors).toBe("");
  expect(output).not.toContain(MARK);
  const report = JSON.parse(output) as { healthy: boolean; findings: Finding[]; counts: Record<string, number> };
  expect(code).toBe(report.healthy ? 0 : 1);
  expect(report.healthy).toBe(!report.findings.some(({ status }) => status === "problem"));
  for (const { message } of report.findings) expect(message).toMatch(/^\S.*[.?]$/);
  return {
    code,
    tookMs,
    report,
    /** The lines of a check, as `status: message`. */
    linesOf: (check: string): string[] =>
      report.findings
        .filter((finding) => finding.check === check)
        .map(({ status, message }) => `${status}: ${message}`),
    /** Problems and warnings of all checks except the given ones. */
    listTroubles: (...except: string[]): Finding[] =>
      report.findings.filter(
        ({ check, status }) => (status === "problem" || status === "warning") && !except.includes(check),
      ),
  };
}
