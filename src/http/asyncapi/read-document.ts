import { isJsonObject, type Json, type JsonObject } from "../../lib/json.ts";

/** A message of the document, resolved. */
export type ShownMessage = {
  /** Its key in the document, which is also its anchor. */
  key: string;
  type: string;
  title: string;
  summary: string;
  schema: JsonObject;
  example: Json;
};

type ShownOperation = {
  name: string;
  action: string;
  channel: string;
  summary: string;
  messages: ShownMessage[];
  answers: ShownMessage[];
};

const toObject = (value: Json | undefined): JsonObject => (isJsonObject(value) ? value : {});
const toText = (value: Json | undefined): string => (typeof value === "string" ? value : "");

/** Reads the parts of an AsyncAPI document for its page. */
export function readAsyncApi(document: JsonObject) {
  const components = toObject(document.components);
  const schemas = toObject(components.schemas);
  const messages = toObject(components.messages);
  const nameOf = (ref: Json | undefined): string => toText(toObject(ref).$ref).split("/").at(-1) ?? "";

  function readMessage(key: string): ShownMessage {
    const message = toObject(messages[key]);
    const [example] = Array.isArray(message.examples) ? message.examples : [];
    return {
      key,
      type: toText(message.name),
      title: toText(message.title),
      summary: toText(message.summary),
      schema: toObject(schemas[nameOf(message.payload)]),
      example: toObject(example).payload ?? null,
    };
  }
  const readMessages = (refs: Json | undefined): ShownMessage[] =>
    Array.isArray(refs) ? refs.map((ref) => readMessage(nameOf(ref))) : [];

  const operations: ShownOperation[] = Object.entries(toObject(document.operations)).map(([name, value]) => {
    const operation = toObject(value);
    return {
      name,
      action: toText(operation.action),
      channel: nameOf(operation.channel),
      summary: toText(operation.summary),
      messages: readMessages(operation.messages),
      answers: readMessages(toObject(operation.reply).messages),
    };
  });

  return {
    operations,
    /** Named schemas that are not the payload of a message themselves. */
    schemas: Object.entries(schemas)
      .filter(([name]) => !Object.hasOwn(messages, name))
      .map(([name, schema]) => ({ name, schema: toObject(schema) })),
    info: toObject(document.info),
    servers: Object.values(toObject(document.servers)).map(toObject),
    channel: (name: string): JsonObject => toObject(toObject(document.channels)[name]),
    securitySchemes: Object.entries(toObject(components.securitySchemes)).map(([name, scheme]) => ({
      name,
      description: toText(toObject(scheme).description),
    })),
  };
}

export type ShownDocument = ReturnType<typeof readAsyncApi>;
