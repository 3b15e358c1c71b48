import { build } from "../../lib/build.ts";
import { checkPortIsFree } from "../address.ts";
import { CommandError } from "../command.ts";
import type { DoctorCheck } from "./check.ts";
import { type Finding, ok, problem, skipped, warning } from "./finding.ts";
import type { LocalServer } from "./local-server.ts";

export const portCheck: DoctorCheck = {
  name: "port",
  async run({ config, localServer }) {
    if (config.PORT === 0) return [skipped("PORT is 0, so the port is chosen when the server starts.")];
    const server = await localServer;
    if (server) return checkLocalServer(server, config.PORT);
    try {
      checkPortIsFree(config);
      return [ok(`Port ${config.PORT} on ${config.HOST} is free; no Parley is running on it.`)];
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      const isInUse = error.message.includes(" is in use");
      const hint = isInUse
        ? " No Parley responds on it, so the process is another program, or a Parley that hangs."
        : "";
      return [problem(error.message + hint)];
    }
  },
};

function checkLocalServer({ version, commit, isReady, failingChecks }: LocalServer, port: number): Finding[] {
  const findings: Finding[] = [];
  const label = `Parley ${version} (${commit})`;
  if (isReady) findings.push(ok(`${label} is running on port ${port}, and is ready.`));
  else
    findings.push(
      problem(
        `${label} is running on port ${port}, but is not ready${failingChecks.length > 0 ? ` (${failingChecks.join(", ")})` : ""}; see its log and the other lines here.`,
      ),
    );
  if (version !== build.version || commit !== build.commit)
    findings.push(
      warning(
        `The running server is ${label}, but this executable is ${build.version} (${build.commit}); restart the server if you have upgraded, or run the doctor with the same executable.`,
      ),
    );
  return findings;
}
