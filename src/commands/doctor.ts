import { type Config, ConfigError, listSecrets } from "../config.ts";
import { createSecretMasker } from "../lib/mask-secrets.ts";
import { createFetch } from "../lib/outgoing/create-fetch.ts";
import { createProxyFinder } from "../lib/outgoing/find-proxy.ts";
import { type Command, type Environment, exitCodes, parseOptions } from "./command.ts";
import { type DoctorCheck, type DoctorContext, runDoctorCheck } from "./doctor/check.ts";
import { doctorChecks } from "./doctor/checks.ts";
import { clockCheck } from "./doctor/clock.ts";
import { createConfigurationCheck } from "./doctor/configuration.ts";
import { type Finding, problem, skipped } from "./doctor/finding.ts";
import { findLocalServer } from "./doctor/local-server.ts";
import { createDoctorReport, type DoctorReport, formatDoctorReport } from "./doctor/report.ts";
import { findServerSecret } from "./jwt-secret.ts";
import { loadConfigWithWarnings } from "./load-config.ts";
import { removeRuntimeProxies, setRuntimeProxies } from "./runtime-proxies.ts";

export const doctorCommand: Command = {
  name: "doctor",
  summary: "check configuration, database, providers and machine, and say what to do",
  help: `Usage: parley doctor [--offline] [--json]

Checks what Parley depends on: settings, port, certificate, database, Redis, model providers, MCP servers, the OIDC issuer, backups,
disk, limits and clock. Prints one line for each: OK, WARNING, PROBLEM or SKIPPED, and what to do. Use the same
environment as the server. Works whether Parley is running or stopped. Starts and changes nothing, except that it writes a small
file to each folder and removes it. Takes at most about 15 seconds.

    --offline   don't call model providers, MCP servers, the OIDC issuer, the trace collector or the backup bucket
    --json      print the report as JSON

Exits with 0 if there are no problems (warnings don't count), otherwise with 1. docs/doctor.md describes each check.`,

  async run(args, environment) {
    const values = parseOptions("doctor", args, { offline: { type: "boolean" }, json: { type: "boolean" } });
    const report = await diagnose(environment, values.offline ?? false);
    console.log(values.json ? JSON.stringify(report, null, 2) : formatDoctorReport(report));
    return report.healthy ? exitCodes.success : exitCodes.failure;
  },
};

type CheckResult = { name: string; findings: Finding[] };

async function diagnose(environment: Environment, isOffline: boolean): Promise<DoctorReport> {
  const startedAtMs = performance.now();
  const loadResult = tryLoadConfig(environment);
  const getElapsedMs = () => performance.now() - startedAtMs;
  if ("problems" in loadResult) {
    const skippedResults = [...doctorChecks, clockCheck].map(({ name }) => ({
      name,
      findings: [skipped("The configuration has errors; correct them first.")],
    }));
    const configurationResult = { name: "configuration", findings: loadResult.problems.map(problem) };
    return createDoctorReport([configurationResult, ...skippedResults], getElapsedMs(), (text) => text);
  }
  const { config, warnings } = loadResult;
  // Requests to this machine must not use a proxy, so they start before the proxy is set for bucket requests.
  removeRuntimeProxies(environment);
  const localServer = findLocalServer(config);
  setRuntimeProxies(environment, config);
  const context: DoctorContext = {
    config,
    isOffline,
    fetch: createFetch(createProxyFinder(config)),
    localServer,
    clockReadings: [],
  };
  const runAll = (checks: readonly DoctorCheck[]): Promise<CheckResult[]> =>
    Promise.all(checks.map(async (check) => ({ name: check.name, findings: await runDoctorCheck(check, context) })));
  const results = await runAll([createConfigurationCheck(warnings), ...doctorChecks]);
  results.push(...(await runAll([clockCheck])));
  return createDoctorReport(
    results,
    getElapsedMs(),
    createSecretMasker([...listSecrets(config), ...listJwtSecrets(config)]),
  );
}

function tryLoadConfig(environment: Environment): { config: Config; warnings: string[] } | { problems: string[] } {
  try {
    return loadConfigWithWarnings(environment);
  } catch (error) {
    if (error instanceof ConfigError) return { problems: error.problems };
    throw error;
  }
}

function listJwtSecrets(config: Config): string[] {
  try {
    return [findServerSecret(config)?.value ?? []].flat();
  } catch {
    return [];
  }
}
