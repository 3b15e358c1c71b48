import type { TSchema } from "@sinclair/typebox";
import type { Json, JsonObject } from "../../lib/json.ts";
import { mapTypeToName } from "../names.ts";
import { createSchemaList } from "../schema-list.ts";

type MessageOptions = {
  /** The `type` of the payload. */
  type: string;
  title?: string;
  example: object;
  /** Whether receivers must accept unknown fields. */
  isOpen: boolean;
};

/** Creates a list of the document's messages with their schemas. A message in several channels is listed once. */
export function createMessageList() {
  const schemas = createSchemaList("#/components/schemas/");
  const messages = new Map<string, JsonObject>();

  return {
    /** Adds a message. Returns its name in the document. */
    add(schema: TSchema, { type, title = type, example, isOpen }: MessageOptions): string {
      const name = schema.title ?? mapTypeToName(type);
      messages.set(name, {
        name: type,
        title,
        ...(schema.description !== undefined && { summary: schema.description }),
        contentType: "application/json",
        ...("id" in schema.properties && { correlationId: { $ref: "#/components/correlationIds/frame" } }),
        payload: schemas.add(schema, { isOpen }),
        examples: [{ name: `${name}Example`, payload: example as Json }],
      });
      return name;
    },
    listSchemas: schemas.listSchemas,
    listMessages: (): JsonObject => Object.fromEntries([...messages].sort(([a], [b]) => (a < b ? -1 : 1))),
  };
}

export type MessageList = ReturnType<typeof createMessageList>;

/** Creates references to messages by name, for a channel. */
export const listMessageRefs = (names: readonly string[]): JsonObject =>
  Object.fromEntries([...new Set(names)].sort().map((name) => [name, { $ref: `#/components/messages/${name}` }]));

/** Creates references to a channel's messages, for an operation or a reply. */
export const createReferences = (channel: string, names: readonly string[]): JsonObject => ({
  channel: { $ref: `#/channels/${channel}` },
  messages: names.map((name) => ({ $ref: `#/channels/${channel}/messages/${name}` })),
});
