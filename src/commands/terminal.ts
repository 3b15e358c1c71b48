import type { Environment } from "./command.ts";

type Output = Pick<typeof process.stdout, "isTTY">;

/** Whether output may have colors: on a terminal that supports them, unless NO_COLOR (no-color.org) is set. */
export function hasColors({ NO_COLOR, TERM }: Environment, output: Output = process.stdout): boolean {
  return output.isTTY === true && !NO_COLOR && TERM !== "dumb";
}

/** Text in bold, if supported. */
export const bold = (text: string, isColored: boolean): string => (isColored ? `\x1b[1m${text}\x1b[22m` : text);
