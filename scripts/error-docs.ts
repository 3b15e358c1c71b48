import { type ErrorExplanation, errorGroups } from "../src/lib/error-codes.ts";
import { replaceMarkedSection } from "./marked-section.ts";

/** Inserts the error code tables between their markers. @throws if the markers are missing. */
export const insertErrorTables = (markdown: string): string =>
  replaceMarkedSection(markdown, "errors", errorGroups.map(createTable).join("\n\n"));

function createTable({ title, codes }: (typeof errorGroups)[number]): string {
  const rows = Object.entries(codes).map(formatRow);
  return [
    `## ${title}`,
    "",
    "| code | status | retry | meaning | what to do |",
    "| --- | --- | --- | --- | --- |",
    ...rows,
  ].join("\n");
}

const formatRow = ([code, { status, temporary, meaning, remedy }]: [string, ErrorExplanation]): string =>
  `| \`${code}\` | ${status ?? ""} | ${temporary ? "yes" : "no"} | ${meaning} | ${remedy} |`;
