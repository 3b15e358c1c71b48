import { type ErrorExplanation, errorGroups } from "../src/lib/error-codes.ts";
import { placeMarkedPart } from "./marked-part.ts";

/** Puts the tables of error codes between their marks. @throws when they are missing. */
export const placeErrorTables = (markdown: string): string =>
  placeMarkedPart(markdown, "errors", errorGroups.map(createTable).join("\n\n"));

function createTable({ title, codes }: (typeof errorGroups)[number]): string {
  const rows = Object.entries(codes).map(mapToRow);
  return [
    `## ${title}`,
    "",
    "| code | status | retry | what it means | what to do |",
    "| --- | --- | --- | --- | --- |",
    ...rows,
  ].join("\n");
}

const mapToRow = ([code, { status, temporary, meaning, remedy }]: [string, ErrorExplanation]): string =>
  `| \`${code}\` | ${status ?? ""} | ${temporary ? "yes" : "no"} | ${meaning} | ${remedy} |`;
