import { type ExtraField, extraFields, hasField, isHint } from "../src/ai/extra-fields.ts";
import type { Api } from "../src/ai/wire-format.ts";
import type { FieldRule, FieldRules, Treatment } from "../src/modules/openai/field-rules.ts";
import { fieldsByRole } from "../src/modules/openai/message-fields.ts";
import { requestFields } from "../src/modules/openai/request-fields.ts";
import { replaceMarkedSection } from "./marked-section.ts";

/** Inserts the request field tables between their markers. @throws if the markers are missing. */
export const insertFieldTables = (markdown: string): string =>
  replaceMarkedSection(markdown, "fields", [...treatments.map(createSection), createMessageSection()].join("\n\n"));

const treatments: readonly { treatment: Treatment; title: string; text: string }[] = [
  { treatment: "mapped", title: "Supported fields", text: "Parley translates these for each provider." },
  {
    treatment: "forwarded",
    title: "Fields passed on to the provider",
    text: "These are passed on unchanged if the provider's API has them. For other models, they are rejected with `unsupported_parameter`.",
  },
  {
    treatment: "ignored",
    title: "Fields without effect",
    text: "These are accepted and ignored, because they don't change the response.",
  },
  {
    treatment: "rejected",
    title: "Rejected fields",
    text: "These return 400, unless they are null, false or empty. The error message includes the note from this table.",
  },
];

const columns: readonly [title: string, api: Api][] = [
  ["OpenAI", "responses"],
  ["Anthropic", "messages"],
  ["compatible", "chat"],
];

function createSection({ treatment, title, text }: (typeof treatments)[number]): string {
  const rows = listRows(requestFields).filter(({ rule }) => rule.treatment === treatment);
  const table =
    treatment === "forwarded" ? createForwardedTable() : createTable(["field", "note"], rows.map(createCells));
  return `## ${title}\n\n${text}\n\n${table}`;
}

type Row = { name: string; rule: FieldRule };

/** Lists fields, including nested ones such as `stream_options.include_usage`, but not those of messages, which have a separate table. */
function listRows(rules: FieldRules, prefix = ""): Row[] {
  return Object.entries(rules).flatMap(([field, rule]) => {
    const name = `${prefix}${field}`;
    const inner = field === "messages" ? [] : listRows(rule.getInnerRules?.({}) ?? {}, `${name}.`);
    return [{ name, rule }, ...inner.filter((row) => row.rule.note !== "" || row.rule.treatment !== "mapped")];
  });
}

const createCells = ({ name, rule }: Row): string[] => [`\`${name}\``, rule.note];

function createForwardedTable(): string {
  const formatSupport = (field: ExtraField, api: Api) =>
    hasField(api, field) ? "yes" : isHint(field) ? "ignored" : "400";
  const rows = extraFields.map((field) => [
    `\`${field}\``,
    ...columns.map(([, api]) => formatSupport(field, api)),
    requestFields[field]?.note ?? "",
  ]);
  return createTable(["field", ...columns.map(([title]) => title), "note"], rows);
}

function createMessageSection(): string {
  const rows = Object.entries(fieldsByRole).flatMap(([role, rules]) =>
    Object.entries(rules)
      .flatMap(([name, rule]) => [{ name, rule }, ...listRows(getNestedFields(name, rule), `${name}.`)])
      .filter(({ name }) => name !== "role")
      .map(({ name, rule }) => [role, `\`${name}\``, treatmentLabels[rule.treatment], rule.note]),
  );
  return `## Message fields\n\nAny other field of a message is rejected.\n\n${createTable(["role", "field", "", "note"], rows)}`;
}

/** Returns the nested fields of tool calls. Those of other message fields have no notes to document. */
const getNestedFields = (name: string, rule: FieldRule): FieldRules =>
  name === "tool_calls" ? (rule.getInnerRules?.({}) ?? {}) : {};

const treatmentLabels: Readonly<Record<Treatment, string>> = {
  mapped: "supported",
  forwarded: "passed on",
  ignored: "no effect",
  rejected: "rejected",
};

const createTable = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
