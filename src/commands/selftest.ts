import { hasPayload } from "../db/embedded/payload.ts";
import { type Command, CommandError, exitCodes, parseOptions } from "./command.ts";
import { runInterruptibly } from "./interruption.ts";
import { createProgressLine } from "./progress.ts";
import { removeRuntimeProxies } from "./runtime-proxies.ts";
import { runChecks } from "./selftest/check.ts";
import { CheckContext } from "./selftest/check-context.ts";
import { checks } from "./selftest/checks.ts";
import { startFaultyProvider } from "./selftest/provider/server.ts";
import { createReport, describeResult, formatReport, type Report } from "./selftest/report.ts";
import { createSandbox } from "./selftest/sandbox.ts";
import { listSettings } from "./selftest/settings.ts";

export const selftestCommand: Command = {
  name: "selftest",
  summary: "check on this machine that Parley does what it claims, in about a minute",
  help: `Usage: parley selftest [--json] [--keep]

Starts this executable as child processes on free ports of this machine, in a temporary folder, with an embedded Postgres and a
built-in model provider that fails on purpose. Sends messages, kills servers, restores a backup, and reports measurements for
each claim. Needs no configuration and no internet access, and doesn't use your settings or data. Takes about a minute.
Afterwards it stops all processes and removes the folder; if a claim fails, it keeps the logs.

    --json    print the report as JSON
    --keep    keep the folder with data and logs

Exits with 0 if every claim holds, otherwise with 1. docs/selftest.md describes each check and its limits.`,

  async run(args, environment) {
    const values = parseOptions("selftest", args, { json: { type: "boolean" }, keep: { type: "boolean" } });
    if (!hasPayload)
      throw new CommandError(
        "The self-test needs the embedded Postgres, which this build doesn't have (builds for Windows and musl); run it with a build for Linux with glibc or macOS.",
      );
    // All requests go to this machine, so they must not use a proxy.
    removeRuntimeProxies(environment);
    const report = await runInterruptibly(
      "The self-test was interrupted; its processes were stopped and its folder was removed.",
      (signal) => runSelftest(values.keep ?? false, signal),
      ["SIGINT", "SIGTERM", "SIGHUP"],
    );
    console.log(values.json ? JSON.stringify(report, null, 2) : formatReport(report));
    return report.passed ? exitCodes.success : exitCodes.failure;
  },
};

async function runSelftest(shouldKeepFolder: boolean, signal: AbortSignal): Promise<Report> {
  const startedAt = new Date();
  const startedAtMs = performance.now();
  const sandbox = createSandbox();
  const provider = startFaultyProvider();
  const progressLine = createProgressLine();
  let keptContent: Parameters<typeof sandbox.close>[0] = shouldKeepFolder ? "everything" : "nothing";
  try {
    const results = await runChecks(checks, new CheckContext(sandbox, provider), signal, {
      onStart: ({ name, claim }, index) => progressLine.print(`${index + 1}/${checks.length} ${name}: ${claim}`),
      onEnd: (result) => void (process.stderr.isTTY || console.error(describeResult(result))),
    });
    const hasFailed = results.some(({ status }) => status !== "passed");
    if (hasFailed && keptContent === "nothing") keptContent = "logs";
    return createReport({
      startedAt,
      durationMs: performance.now() - startedAtMs,
      settings: listSettings(provider.settings),
      results,
      logs: keptContent === "nothing" ? null : sandbox.logsDir,
    });
  } finally {
    progressLine.print("Cleaning up");
    await provider.stop();
    await sandbox.close(signal.aborted ? "nothing" : keptContent);
    progressLine.clear();
  }
}
