import type { TSchema } from "@sinclair/typebox";
import { allowsReconnect, closeCodes } from "../src/protocol/close-codes.ts";
import { durableEvents, ephemeralEvents } from "../src/protocol/events.ts";
import { clientFrames } from "../src/protocol/frames.ts";
import { realtimeLimits } from "../src/protocol/limits.ts";
import { acks, pushes } from "../src/protocol/pushes.ts";
import { createMarkdownTable } from "./markdown-table.ts";
import { replaceMarkedSection } from "./marked-section.ts";

/** Inserts the frame, event and close code tables between their markers. @throws if the markers are missing. */
export function insertProtocolTables(markdown: string): string {
  const tables = {
    "client-frames": createFrameTable(),
    "server-frames": createPushTable(),
    "durable-events": createEventTable(),
    "ephemeral-events": createEphemeralTable(),
    "close-codes": createCloseCodeTable(),
  };
  return Object.entries(tables).reduce((text, [name, table]) => replaceMarkedSection(text, name, table), markdown);
}

/** Inserts the table of connection limits between its markers. @throws if the markers are missing. */
export const insertRealtimeLimits = (markdown: string): string =>
  replaceMarkedSection(
    markdown,
    "realtime-limits",
    createMarkdownTable(
      ["limit", "value", "unit", "effect"],
      Object.entries(realtimeLimits).map(([name, { value, unit, effect }]) => [
        `\`${name}\``,
        value.toLocaleString("en"),
        unit,
        effect,
      ]),
    ),
  );

/** Lists the names of a schema's fields, except the excluded ones. Optional fields end with `?`. */
function listFields({ properties, required = [] }: TSchema, excluded: readonly string[] = ["type", "id"]): string[] {
  return Object.keys(properties)
    .filter((name) => !excluded.includes(name))
    .map((name) => (required.includes(name) ? name : `${name}?`));
}

const getDescription = ({ description }: TSchema): string => String(description ?? "");
const formatNames = (names: readonly string[]): string => names.map((name) => `\`${name}\``).join(", ");

function createFrameTable(): string {
  const rows = Object.entries(clientFrames).map(([type, schema]) => {
    const fields = listFields(schema);
    return [
      `\`${type}${fields.length > 0 ? ` {${fields.join(", ")}}` : ""}\``,
      formatResponse(type),
      getDescription(schema),
    ];
  });
  return createMarkdownTable(["you send", "you get", "effect"], rows);
}

function formatResponse(type: string): string {
  if (type === "ping") return "`pong`";
  const ack = (acks as Record<string, TSchema>)[type];
  if (!ack) return "nothing";
  const fields = listFields(ack);
  return fields.length > 0 ? `ack with ${formatNames(fields)}` : "ack";
}

function createPushTable(): string {
  const { ready, error, pong, inbox, "server.draining": draining } = pushes;
  const controlFrames: [string, TSchema][] = Object.entries({ ready, error, pong, inbox, "server.draining": draining });
  return createMarkdownTable(
    ["`type`", "fields", "when"],
    [
      ["`ack`", "`id` and the fields in the table above", "A client frame was executed."],
      ...controlFrames.map(([type, schema]) => [
        `\`${type}\``,
        formatNames(listFields(schema, ["type"])),
        getDescription(schema),
      ]),
    ],
  );
}

function createEventTable(): string {
  const rows = Object.entries(durableEvents).map(([type, schema]) => {
    const data = schema.properties.data as TSchema;
    return [
      `\`${type}\``,
      data.title === undefined ? formatNames(listFields(data, [])) : `\`${data.title}\``,
      getDescription(schema),
    ];
  });
  return createMarkdownTable(["`type`", "`data`", "what happened"], rows);
}

function createEphemeralTable(): string {
  const rows = Object.entries(ephemeralEvents).map(([type, schema]) => [
    `\`${type}\``,
    formatNames(listFields(schema, ["type", "conversation_id"])),
    getDescription(schema),
  ]);
  return createMarkdownTable(["`type`", "fields", "what happened"], rows);
}

function createCloseCodeTable(): string {
  const rows = Object.entries(closeCodes).map(([name, { code: number, reason, remedy }]) => [
    number,
    `\`${name}\``,
    reason,
    allowsReconnect(number) ? "yes" : "no",
    remedy,
  ]);
  return createMarkdownTable(["code", "name", "when", "reconnect", "what to do"], rows);
}
