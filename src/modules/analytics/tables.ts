import { findQuality, parseAccept } from "../../http/accept.ts";
import { type CsvCell, createCsv } from "../../http/csv.ts";
import { Problem } from "../../lib/problem.ts";

/** The supported media types. If a client accepts both equally, it receives the first type. */
export const tableMediaTypes = ["application/json", "text/csv"] as const;

type Figure = string | number | null | { [name: string]: Figure };
type Row = { [name: string]: Figure };

/** Returns whether the client prefers CSV to JSON. @throws Problem `not_acceptable` if it accepts neither. */
function prefersCsv(request: Request): boolean {
  const ranges = parseAccept(request.headers.get("accept"));
  const [json, csv] = [findQuality("application/json", ranges), findQuality("text/csv", ranges)];
  if (json === 0 && csv === 0)
    throw new Problem("not_acceptable", `Analytics are available as ${tableMediaTypes.join(" or ")}.`);
  return csv > json;
}

/** Flattens a row to named cells: `feedback: {positive}` becomes `feedback_positive`. */
function flatten(row: Row, prefix = ""): [string, CsvCell][] {
  return Object.entries(row).flatMap(([name, value]) =>
    typeof value === "object" && value !== null ? flatten(value, `${prefix}${name}_`) : [[prefix + name, value]],
  );
}

/** Replaces null where the value may be an object, so that every row has the same columns. */
const emptyObjects: Readonly<Record<string, Row>> = { first_token_ms: { p50: null, p95: null } };
const fillMissingObjects = (row: Row): Row =>
  Object.fromEntries(Object.entries(row).map(([name, value]) => [name, value ?? emptyObjects[name] ?? null]));

type TableRequest = { request: Request; headers: Record<string, string | number | undefined> };

/**
 * Responds with the body as JSON, or with the table as CSV if the client prefers that.
 * @throws Problem `not_acceptable`.
 */
export function respondWithTable<Body>(
  { request, headers }: TableRequest,
  body: Body,
  table: { name: string; rows: readonly Row[]; columns: readonly string[] },
): Body | Response {
  // This replaces the default `Vary` header, so it must include the default value.
  headers.vary = "Accept, Origin";
  if (!prefersCsv(request)) return body;
  const lines = table.rows.map((row) => new Map(flatten(fillMissingObjects(row))));
  const csv = createCsv(
    table.columns,
    lines.map((line) => table.columns.map((name) => line.get(name) ?? null)),
  );
  return new Response(csv, {
    headers: {
      "content-type": "text/csv; charset=utf-8; header=present",
      "content-disposition": `attachment; filename="${table.name}.csv"`,
      vary: "Accept, Origin",
      ...(typeof headers.link === "string" && { link: headers.link }),
    },
  });
}

const answerColumns = [
  "generations",
  "failed_generations",
  "error_rate",
  "input_tokens",
  "output_tokens",
  "cached_input_tokens",
  "reasoning_tokens",
  "cost_usd",
  "first_token_ms_p50",
  "first_token_ms_p95",
  "feedback_positive",
  "feedback_negative",
];
const figureColumns = [
  "active_users",
  "active_conversations",
  "messages",
  "messages_by_role_system",
  "messages_by_role_user",
  "messages_by_role_assistant",
  "messages_by_role_tool",
  ...answerColumns,
  "sessions",
];

/** The columns of each table, in order. */
export const columns = {
  overview: ["from", "to", "time_zone", "as_of", ...figureColumns],
  usage: ["start", ...figureColumns],
  models: ["model", ...answerColumns],
  users: [
    "user_id",
    "user_email",
    "user_display_name",
    "messages",
    "generations",
    "failed_generations",
    "input_tokens",
    "output_tokens",
    "cost_usd",
  ],
} as const;
