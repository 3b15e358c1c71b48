import { type ErrorExplanation, errorGroups } from "../src/lib/error-codes.ts";
import { placeMarkedPart } from "./marked-part.ts";

/** Inserts the tables of error codes between their markers. @throws if the markers are missing. */
export const placeErrorTables = (markdown: string): string =>
  placeMarkedPart(markdown, "errors", errorGroups.map(createTable).join("\n\n"));

function createTable({ title, codes }: (typeof errorGroups)[number]): string {
  const rows = Object.entries(codes).map(mapToRow);
  return [
    `## ${title}`,
    "",
    "| code | status | retry | meaning | what to do |",
    "| --- | --- | --- | --- | --- |",
    ...rows,
  ].join("\n");
}

const mapToRow = ([code, { status, temporary, meaning, remedy }]: [string, ErrorExplanation]): string =>
  `| \`${code}\` | ${status ?? ""} | ${temporary ? "yes" : "no"} | ${meaning} | ${remedy} |`;
