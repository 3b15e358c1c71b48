import { existsSync } from "node:fs";

const SHELL = "/bin/sh";

/** The package that usually provides a library, where it isn't obvious. */
const packages: Record<string, string> = {
  "libstdc++.so.6": "package libstdc++6 on Debian and Ubuntu, libstdc++ elsewhere",
  "libgcc_s.so.1": "package libgcc-s1 on Debian and Ubuntu, libgcc elsewhere",
};

/**
 * Describes what a bare system lacks to run PostgreSQL, judging by the output of its programs; null if that isn't the cause.
 * A distroless image or a hand-made root has neither a shell nor the C++ library.
 */
export function describeMissingRequirement(errorOutput: string, hasFile = existsSync): string | null {
  const missing: string[] = [];
  const [, library] = /error while loading shared libraries: ([\w.+-]+):/.exec(errorOutput) ?? [];
  if (library) missing.push(packages[library] ? `${library} (${packages[library]})` : library);
  // initdb starts the server through the shell, and without one reports that the server was not found.
  if (!hasFile(SHELL)) missing.push(SHELL);
  if (missing.length === 0) return null;
  return `This machine lacks ${missing.join(" and ")}, which the embedded Postgres needs: install it, or set DATABASE_URL to the address of a PostgreSQL server.`;
}
