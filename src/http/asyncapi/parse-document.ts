import { isJsonObject, type Json, type JsonObject } from "../../lib/json.ts";

/** A message with its references resolved. */
export type DocumentMessage = {
  /** The key in the document, which is also used as an anchor. */
  key: string;
  type: string;
  title: string;
  summary: string;
  schema: JsonObject;
  example: Json;
};

type DocumentOperation = {
  name: string;
  action: string;
  channel: string;
  summary: string;
  messages: DocumentMessage[];
  replies: DocumentMessage[];
};

const toObject = (value: Json | undefined): JsonObject => (isJsonObject(value) ? value : {});
const toText = (value: Json | undefined): string => (typeof value === "string" ? value : "");

/** Returns the parts of an AsyncAPI document that the page shows. */
export function parseAsyncApi(document: JsonObject) {
  const components = toObject(document.components);
  const schemas = toObject(components.schemas);
  const messages = toObject(components.messages);
  const getRefName = (ref: Json | undefined): string => toText(toObject(ref).$ref).split("/").at(-1) ?? "";

  function parseMessage(key: string): DocumentMessage {
    const message = toObject(messages[key]);
    const [example] = Array.isArray(message.examples) ? message.examples : [];
    return {
      key,
      type: toText(message.name),
      title: toText(message.title),
      summary: toText(message.summary),
      schema: toObject(schemas[getRefName(message.payload)]),
      example: toObject(example).payload ?? null,
    };
  }
  const parseMessages = (refs: Json | undefined): DocumentMessage[] =>
    Array.isArray(refs) ? refs.map((ref) => parseMessage(getRefName(ref))) : [];

  const operations: DocumentOperation[] = Object.entries(toObject(document.operations)).map(([name, value]) => {
    const operation = toObject(value);
    return {
      name,
      action: toText(operation.action),
      channel: getRefName(operation.channel),
      summary: toText(operation.summary),
      messages: parseMessages(operation.messages),
      replies: parseMessages(toObject(operation.reply).messages),
    };
  });

  return {
    operations,
    /** The named schemas that aren't messages. */
    schemas: Object.entries(schemas)
      .filter(([name]) => !Object.hasOwn(messages, name))
      .map(([name, schema]) => ({ name, schema: toObject(schema) })),
    info: toObject(document.info),
    servers: Object.values(toObject(document.servers)).map(toObject),
    getChannel: (name: string): JsonObject => toObject(toObject(document.channels)[name]),
    securitySchemes: Object.entries(toObject(components.securitySchemes)).map(([name, scheme]) => ({
      name,
      description: toText(toObject(scheme).description),
    })),
  };
}

export type AsyncApiParts = ReturnType<typeof parseAsyncApi>;
