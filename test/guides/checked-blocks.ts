import type { Block } from "./blocks.ts";

/** Returns whether a block is validated instead of run: settings, and JSON that isn't written to a file. */
export function isOnlyValidated({ language, isSettings, file }: Block): boolean {
  return isSettings || (language === "json" && file === undefined);
}
