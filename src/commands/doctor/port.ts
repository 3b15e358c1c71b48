import { build } from "../../lib/build.ts";
import { checkPortIsFree } from "../address.ts";
import { CommandError } from "../command.ts";
import type { DoctorCheck } from "./check.ts";
import { type Finding, ok, problem, skipped, warning } from "./finding.ts";
import type { OwnServer } from "./own-server.ts";

export const portCheck: DoctorCheck = {
  name: "port",
  async find({ config, ownServer }) {
    if (config.PORT === 0) return [skipped("PORT is 0, so the port is chosen when the server starts.")];
    const server = await ownServer;
    if (server) return judgeOwnServer(server, config.PORT);
    try {
      checkPortIsFree(config);
      return [ok(`Port ${config.PORT} on ${config.HOST} is free; no Parley is running on it.`)];
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      const isTaken = error.message.includes(" is in use");
      const hint = isTaken ? " No Parley responds there: it is another program, or a Parley that hangs." : "";
      return [problem(error.message + hint)];
    }
  },
};

function judgeOwnServer({ version, commit, isReady, failed }: OwnServer, port: number): Finding[] {
  const findings: Finding[] = [];
  const named = `Parley ${version} (${commit})`;
  if (isReady) findings.push(ok(`${named} is running on port ${port}, and is ready.`));
  else
    findings.push(
      problem(
        `${named} is running on port ${port}, but is not ready${failed.length > 0 ? ` (${failed.join(", ")})` : ""}; see its log and the other lines here.`,
      ),
    );
  if (version !== build.version || commit !== build.commit)
    findings.push(
      warning(
        `The running server is ${named}, but this executable is ${build.version} (${build.commit}); restart the server if you have upgraded, or run the doctor with the same executable.`,
      ),
    );
  return findings;
}
