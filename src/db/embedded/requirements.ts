import { existsSync } from "node:fs";

const SHELL = "/bin/sh";

/** The package that usually has a library, where it isn't obvious. */
const packages: Record<string, string> = {
  "libstdc++.so.6": "package libstdc++6 on Debian and Ubuntu, libstdc++ elsewhere",
  "libgcc_s.so.1": "package libgcc-s1 on Debian and Ubuntu, libgcc elsewhere",
};

/**
 * What a bare system lacks of that which PostgreSQL needs, judged by what its programs said; null if that is not it.
 * A distroless image or a hand-made root has neither a shell nor the C++ library.
 */
export function describeMissingRequirement(said: string, hasFile = existsSync): string | null {
  const missing: string[] = [];
  const [, library] = /error while loading shared libraries: ([\w.+-]+):/.exec(said) ?? [];
  if (library) missing.push(packages[library] ? `${library} (${packages[library]})` : library);
  // initdb starts the server through it, and then says that the server was not found.
  if (!hasFile(SHELL)) missing.push(SHELL);
  if (missing.length === 0) return null;
  return `This machine lacks ${missing.join(" and ")}, which the embedded Postgres needs: add it, or set DATABASE_URL to the address of a PostgreSQL server.`;
}
