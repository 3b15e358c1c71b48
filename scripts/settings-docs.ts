import { formatConfigTable, formatEnvExample } from "../src/config.ts";
import { replaceMarkedSection } from "./marked-section.ts";

/** Creates the content of .env.example. */
export const createEnvExample = (): string => formatEnvExample();

/** Inserts the table of settings between its markers. @throws if the markers are missing. */
export const insertSettingsTable = (markdown: string): string =>
  replaceMarkedSection(markdown, "settings", formatConfigTable());
