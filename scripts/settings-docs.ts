import { printConfigTable, printEnvExample } from "../src/config.ts";

const START = "<!-- settings -->";
const END = "<!-- /settings -->";

/** The text of .env.example. */
export const createEnvExample = (): string => printEnvExample();

/**
 * Puts the table of settings between its marks.
 * @throws when the marks are missing, so that a table is never lost in silence.
 */
export function placeSettingsTable(markdown: string): string {
  const start = markdown.indexOf(START);
  const end = markdown.indexOf(END);
  if (start === -1 || end < start) throw new Error(`The document has no ${START} … ${END}.`);
  return `${markdown.slice(0, start + START.length)}\n${printConfigTable()}\n${markdown.slice(end)}`;
}
