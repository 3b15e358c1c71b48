import { version } from "../../package.json";

// Filled in when the executable is built (scripts/build.ts); absent when run from source.
declare const PARLEY_COMMIT: string | undefined;
declare const PARLEY_BUILT_AT: string | undefined;

/** The running version: from package.json, with the commit and the time of the build. */
export const build = {
  version,
  commit: typeof PARLEY_COMMIT === "string" ? PARLEY_COMMIT : "source",
  builtAt: typeof PARLEY_BUILT_AT === "string" ? PARLEY_BUILT_AT : null,
} as const;
