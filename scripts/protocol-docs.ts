import type { TSchema } from "@sinclair/typebox";
import { allowsReconnect, closeCodes } from "../src/protocol/close-codes.ts";
import { durableEvents, ephemeralEvents } from "../src/protocol/events.ts";
import { clientFrames } from "../src/protocol/frames.ts";
import { realtimeLimits } from "../src/protocol/limits.ts";
import { acks, pushes } from "../src/protocol/pushes.ts";
import { createMarkdownTable } from "./markdown-table.ts";
import { placeMarkedPart } from "./marked-part.ts";

/** Puts the tables of frames, events and close codes between their marks. @throws when they are missing. */
export function placeProtocolTables(markdown: string): string {
  const tables = {
    "client-frames": createFrameTable(),
    "server-frames": createPushTable(),
    "durable-events": createEventTable(),
    "ephemeral-events": createEphemeralTable(),
    "close-codes": createCloseCodeTable(),
  };
  return Object.entries(tables).reduce((text, [name, table]) => placeMarkedPart(text, name, table), markdown);
}

/** Puts the table of the limits of connections between its marks. @throws when they are missing. */
export const placeRealtimeLimits = (markdown: string): string =>
  placeMarkedPart(
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

/** The fields of a schema without those that every frame has, as `{conversation_id, after_seq?}`. */
function listFields({ properties, required = [] }: TSchema, left: readonly string[] = ["type", "id"]): string[] {
  return Object.keys(properties)
    .filter((name) => !left.includes(name))
    .map((name) => (required.includes(name) ? name : `${name}?`));
}

const describe = ({ description }: TSchema): string => String(description ?? "");
const code = (names: readonly string[]): string => names.map((name) => `\`${name}\``).join(", ");

function createFrameTable(): string {
  const rows = Object.entries(clientFrames).map(([type, schema]) => {
    const fields = listFields(schema);
    return [`\`${type}${fields.length > 0 ? ` {${fields.join(", ")}}` : ""}\``, nameAnswer(type), describe(schema)];
  });
  return createMarkdownTable(["you send", "you get", "effect"], rows);
}

function nameAnswer(type: string): string {
  if (type === "ping") return "`pong`";
  const ack = (acks as Record<string, TSchema>)[type];
  if (!ack) return "nothing";
  const fields = listFields(ack);
  return fields.length > 0 ? `ack with ${code(fields)}` : "ack";
}

function createPushTable(): string {
  const { ready, error, pong, inbox, "server.draining": draining } = pushes;
  const shown: [string, TSchema][] = Object.entries({ ready, error, pong, inbox, "server.draining": draining });
  return createMarkdownTable(
    ["`type`", "fields", "when"],
    [
      ["`ack`", "`id` and those of the table above", "A client frame was executed."],
      ...shown.map(([type, schema]) => [`\`${type}\``, code(listFields(schema, ["type"])), describe(schema)]),
    ],
  );
}

function createEventTable(): string {
  const rows = Object.entries(durableEvents).map(([type, schema]) => {
    const data = schema.properties.data as TSchema;
    return [
      `\`${type}\``,
      data.title === undefined ? code(listFields(data, [])) : `\`${data.title}\``,
      describe(schema),
    ];
  });
  return createMarkdownTable(["`type`", "`data`", "what happened"], rows);
}

function createEphemeralTable(): string {
  const rows = Object.entries(ephemeralEvents).map(([type, schema]) => [
    `\`${type}\``,
    code(listFields(schema, ["type", "conversation_id"])),
    describe(schema),
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
