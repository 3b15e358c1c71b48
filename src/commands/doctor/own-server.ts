import type { Config } from "../../config.ts";
import { build } from "../../lib/build.ts";
import { claimPort } from "../address.ts";
import { CommandError } from "../command.ts";
import { createOwnUrl } from "../own-url.ts";
import type { DoctorCheck } from "./check.ts";
import { type Finding, ok, problem, skipped, warning } from "./finding.ts";

const TIMEOUT_MS = 3_000;

/** A Parley that listens on PORT of this machine. */
export type OwnServer = {
  version: string;
  commit: string;
  isReady: boolean;
  /** The checks of its /readyz that fail. */
  failed: string[];
};

/** Asks the server on PORT what it is; null if nothing there responds as Parley does. */
export async function findOwnServer(config: Config): Promise<OwnServer | null> {
  if (config.PORT === 0) return null;
  const read = async (path: string) => {
    const response = await fetch(createOwnUrl(config, path), {
      signal: AbortSignal.timeout(TIMEOUT_MS),
      redirect: "manual",
      // The certificate is for the public host name, but this connects to the machine itself.
      tls: { rejectUnauthorized: false },
    });
    return { status: response.status, text: await response.text() };
  };
  try {
    const [about, readiness] = await Promise.all([read("/version"), read("/readyz?verbose")]);
    const { version, commit } = JSON.parse(about.text) as Record<string, unknown>;
    if (typeof version !== "string" || typeof commit !== "string") return null;
    const failed = [...readiness.text.matchAll(/^\[-\](\S+)/gm)].map(([, name = ""]) => name);
    return { version, commit, isReady: readiness.status === 200, failed };
  } catch {
    return null;
  }
}

export const portCheck: DoctorCheck = {
  name: "port",
  async find({ config, ownServer }) {
    if (config.PORT === 0) return [skipped("PORT is 0, so the port is chosen when the server starts.")];
    const server = await ownServer;
    if (server) return judgeOwnServer(server, config.PORT);
    try {
      claimPort(config);
      return [ok(`Port ${config.PORT} on ${config.HOST} is free; no Parley is running on it.`)];
    } catch (error) {
      if (error instanceof CommandError) return [problem(`${error.message} What responds there is not Parley.`)];
      throw error;
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
