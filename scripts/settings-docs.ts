import { formatConfigTable, formatEnvExample } from "../src/config.ts";
import { placeMarkedPart } from "./marked-part.ts";

/** The text of .env.example. */
export const createEnvExample = (): string => formatEnvExample();

/** Inserts the table of settings between its markers. @throws if the markers are missing. */
export const placeSettingsTable = (markdown: string): string =>
  placeMarkedPart(markdown, "settings", formatConfigTable());
