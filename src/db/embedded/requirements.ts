import { existsSync } from "node:fs";

const SHELL = "/bin/sh";

/** The packages that usually provide a library, if that isn't obvious from its name. */
const packages: Record<string, string> = {
  "libstdc++.so.6": "package libstdc++6 on Debian and Ubuntu, libstdc++ elsewhere",
  "libgcc_s.so.1": "package libgcc-s1 on Debian and Ubuntu, libgcc elsewhere",
};

/**
 * Describes what a minimal system, such as a distroless image, lacks to run PostgreSQL: a shell or a library. Judges by the
 * output of PostgreSQL's programs; returns null if that shows another cause.
 */
export function describeMissingRequirement(errorOutput: string, hasFile = existsSync): string | null {
  const missing: string[] = [];
  const [, library] = /error while loading shared libraries: ([\w.+-]+):/.exec(errorOutput) ?? [];
  if (library) missing.push(packages[library] ? `${library} (${packages[library]})` : library);
  // initdb starts the server through the shell. Without a shell, it reports that the server was not found.
  if (!hasFile(SHELL)) missing.push(SHELL);
  if (missing.length === 0) return null;
  return `This machine lacks ${missing.join(" and ")}, which the embedded Postgres needs: install it, or set DATABASE_URL to the address of a PostgreSQL server.`;
}
