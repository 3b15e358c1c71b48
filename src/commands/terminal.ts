import type { Environment } from "./command.ts";

type Output = Pick<typeof process.stdout, "isTTY">;

/** Returns whether the output is a terminal that supports colors, and NO_COLOR (no-color.org) isn't set. */
export function hasColors({ NO_COLOR, TERM }: Environment, output: Output = process.stdout): boolean {
  return output.isTTY === true && !NO_COLOR && TERM !== "dumb";
}

/** Formats text in bold if colors are enabled. */
export const bold = (text: string, isColored: boolean): string => (isColored ? `\x1b[1m${text}\x1b[22m` : text);
