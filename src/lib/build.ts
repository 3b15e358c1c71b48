import { version } from "../../package.json";

// Defined when the executable is built (scripts/build.ts); undefined when run from source.
declare const PARLEY_COMMIT: string | undefined;
declare const PARLEY_BUILT_AT: string | undefined;

/** The version from package.json, and the commit and time of the build. */
export const build = {
  version,
  commit: typeof PARLEY_COMMIT === "string" ? PARLEY_COMMIT : "source",
  builtAt: typeof PARLEY_BUILT_AT === "string" ? PARLEY_BUILT_AT : null,
} as const;
