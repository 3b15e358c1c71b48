import { existsSync } from "node:fs";
import { dirname } from "node:path";

const SHELL = "/bin/sh";

/** Libraries whose package isn't obvious from their name. */
const packages: Record<string, string> = {
  "libstdc++.so.6": "package libstdc++6 on Debian and Ubuntu, libstdc++ elsewhere",
  "libgcc_s.so.1": "package libgcc-s1 on Debian and Ubuntu, libgcc elsewhere",
};

/**
 * Describes what a minimal or hardened system lacks to run PostgreSQL: a shell, a library, or a disk without `noexec`. Returns null
 * if the output of PostgreSQL's programs shows a different cause.
 */
export function describeMissingRequirement(errorOutput: string, hasFile = existsSync): string | null {
  const [, executed, spawned] =
    /failed to execute (\/.+): Permission denied|spawn (\/.+) EACCES/.exec(errorOutput) ?? [];
  const program = executed ?? spawned;
  if (program)
    return `${program} can't be executed: ${dirname(program)} is probably on a disk mounted with \`noexec\`. Set DATA_DIR to a folder on a different disk, or set DATABASE_URL to the address of a PostgreSQL server.`;
  const missing: string[] = [];
  const [, library] = /error while loading shared libraries: ([\w.+-]+):/.exec(errorOutput) ?? [];
  if (library) missing.push(packages[library] ? `${library} (${packages[library]})` : library);
  // initdb starts the server through the shell. Without a shell, it reports that the server was not found.
  if (!hasFile(SHELL)) missing.push(SHELL);
  if (missing.length === 0) return null;
  return `This machine lacks ${missing.join(" and ")}, which the embedded Postgres needs: install it, or set DATABASE_URL to the address of a PostgreSQL server.`;
}
