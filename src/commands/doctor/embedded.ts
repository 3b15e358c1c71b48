import { existsSync, readFileSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { findOwner, isReachable } from "../../db/embedded/launcher.ts";
import { hasPayload, majorVersion, payloadVersion } from "../../db/embedded/payload.ts";
import { readPostmasterFile } from "../../db/embedded/postmaster-file.ts";
import { isClusterServer } from "../../db/embedded/process.ts";
import { describeMissingRequirement } from "../../db/embedded/requirements.ts";
import { findDataDirProblem } from "../../lib/data-dir.ts";
import type { DoctorCheck } from "./check.ts";
import { type Finding, ok, problem, skipped, warning } from "./finding.ts";

/** Checks whether the embedded Postgres is running in DATA_DIR, or can start there. */
export const embeddedCheck: DoctorCheck = {
  name: "embedded postgres",
  async run({ config }) {
    if (config.DATABASE_URL !== undefined)
      return [skipped("DATABASE_URL is set, so the embedded Postgres is not used.")];
    if (!hasPayload)
      return [
        problem(
          "This build of Parley has no embedded Postgres (builds for musl and Windows don't); set DATABASE_URL to the URL of a Postgres server.",
        ),
      ];
    const accessProblem = findDataDirProblem(config.DATA_DIR);
    if (accessProblem !== null)
      return [problem(`${accessProblem} If Parley runs as another user, run the doctor as that user, too.`)];
    const missingRequirement = describeMissingRequirement("");
    if (missingRequirement !== null) return [problem(missingRequirement)];
    const clusterDir = join(resolve(config.DATA_DIR), "postgres");
    if (!existsSync(clusterDir))
      return [ok(`PostgreSQL ${payloadVersion} is included; the first start creates a database in ${clusterDir}.`)];
    const problems = [...checkVersion(clusterDir), ...checkAccess(clusterDir)];
    return problems.length > 0 ? problems : [await describeState(clusterDir)];
  },
};

function checkVersion(clusterDir: string): Finding[] {
  let version: string;
  try {
    version = readFileSync(join(clusterDir, "PG_VERSION"), "utf8").trim();
  } catch (error) {
    const isMissing = error instanceof Error && "code" in error && error.code === "ENOENT";
    return [
      problem(
        isMissing
          ? `${clusterDir} is not a PostgreSQL data directory; move it elsewhere, or set a different DATA_DIR.`
          : `${clusterDir} can't be read by user ${process.getuid?.()}; run this as the user that runs Parley.`,
      ),
    ];
  }
  if (version === majorVersion) return [];
  return [
    problem(
      `${clusterDir} was created by PostgreSQL ${version}, and this version of Parley includes ${majorVersion}; run \`parley backup\` with the Parley version that created it, then \`parley restore\` into a new DATA_DIR.`,
    ),
  ];
}

/** Postgres starts only as the owner of its data folder, which other users must not be able to access, and never as root. */
function checkAccess(clusterDir: string): Finding[] {
  const { uid, mode } = statSync(clusterDir);
  const currentUid = process.getuid?.() ?? 0;
  if (currentUid !== 0 && uid !== currentUid)
    return [
      problem(
        `${clusterDir} belongs to user ${uid}, and Postgres starts only as its owner; start Parley as that user, or run \`chown -R ${currentUid}\` on the folder.`,
      ),
    ];
  if (currentUid === 0 && uid === 0)
    return [
      problem(
        `${clusterDir} belongs to root, and Postgres refuses to run as root; change its owner with \`chown -R\`, for example to the user \`nobody\`.`,
      ),
    ];
  if ((mode & 0o027) !== 0)
    return [
      problem(`Other users can access ${clusterDir}, so Postgres refuses to start; run \`chmod 700 ${clusterDir}\`.`),
    ];
  const owner = findOwner(clusterDir);
  if (currentUid === 0 && !isReachable(clusterDir, owner))
    return [
      warning(
        `Postgres runs as user ${owner.uid}, who has no access to a parent folder of ${clusterDir}, so Postgres is started with an additional Linux capability; run \`chmod o+x\` on the parent folders, or set a different DATA_DIR.`,
      ),
    ];
  return [];
}

async function describeState(clusterDir: string): Promise<Finding> {
  const file = readPostmasterFile(clusterDir);
  if (file === null) return ok(`PostgreSQL ${majorVersion} is stopped; its data is in ${clusterDir}.`);
  if (await isClusterServer(clusterDir, file))
    return ok(`PostgreSQL ${majorVersion} is running (process ${file.pid}) in ${clusterDir}.`);
  return ok(
    `PostgreSQL ${majorVersion} was not shut down properly (a crash or a power cut); the next start recovers the data in ${clusterDir}.`,
  );
}
