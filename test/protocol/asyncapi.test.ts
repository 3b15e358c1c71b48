import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import specification from "@asyncapi/specs/schemas/3.0.0-without-$id.json";
import { Type } from "@sinclair/typebox";
import Ajv, { type ValidateFunction } from "ajv";
import { Closed, Named } from "../../src/lib/schema.ts";
import { TEST_EVENT, webhookEventTypes } from "../../src/modules/webhooks/model.ts";
import { addressAsyncApi, createAsyncApi } from "../../src/protocol/asyncapi.ts";
import { closeCodes } from "../../src/protocol/close-codes.ts";
import { durableEvents, ephemeralEvents } from "../../src/protocol/events.ts";
import { clientFrames } from "../../src/protocol/frames.ts";
import { shownLimits } from "../../src/protocol/limits.ts";
import { acks, pushes } from "../../src/protocol/pushes.ts";
import { createSchemaList } from "../../src/protocol/schema-list.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { closeSchemas } from "../support/conformance/close-schemas.ts";
import { createConversation } from "../support/conversation.ts";
import { createTestEvent } from "../support/events.ts";
import { openSocket } from "../support/socket.ts";

type Ref = { $ref: string };
type Operation = {
  action: "send" | "receive";
  channel: Ref;
  messages: Ref[];
  summary: string;
  reply?: { messages: Ref[] };
};
type Channel = { address: string | null; messages: Record<string, Ref> };
type Message = { name: string; payload: Ref; examples: { payload: unknown }[] };
type Document = {
  channels: Record<"events" | "replies" | "webhooks", Channel> & {
    realtime: Channel & {
      "x-close-codes": { code: number; reconnect: boolean }[];
      "x-limits": { name: string; value: number; unit: string; effect: string }[];
    };
  };
  operations: Record<string, Operation>;
  components: { messages: Record<string, Message>; schemas: Record<string, object> };
};

const document = createAsyncApi({ version: "1.2.3" }) as unknown as Document;
const addressed = addressAsyncApi(document as never, { host: "chat.example.com:8443", pathname: "", isSecure: true });
const operations = Object.values(document.operations);
const nameOf = ({ $ref }: Ref) => $ref.split("/").at(-1) ?? "";
const typesOf = (refs: Ref[]) => refs.map((ref) => document.components.messages[nameOf(ref)]?.name ?? "nothing");

const createAjv = (shown: object) =>
  new Ajv({ strict: false, validateFormats: false }).addSchema({ $id: "document", ...shown });
const open = createAjv(document);
const closed = createAjv(closeSchemas(document as never) as object);

/**
 * Validates a payload with nothing but the document, as its users would.
 * @param isClosed refuses fields that the document doesn't name.
 */
function compile(name: string, { isClosed = false } = {}): ValidateFunction {
  const ajv = isClosed ? closed : open;
  const validate = ajv.getSchema(`document#/components/schemas/${name}`);
  if (!validate) throw new Error(`The document has no schema ${name}.`);
  return validate;
}

describe("the AsyncAPI document", () => {
  test("is valid AsyncAPI 3.0.0", () => {
    const validate = new Ajv({ strict: false, validateFormats: false, allErrors: true }).compile(specification);
    validate(document);
    expect(validate.errors ?? []).toEqual([]);
    validate({ ...document, info: {} });
    expect(validate.errors?.length).toBeGreaterThan(0);
  });

  test("has no dangling references", () => {
    const references = JSON.stringify(document).match(/"#\/[^"]+"/g) ?? [];
    const find = (path: string) =>
      path
        .split("/")
        .slice(1)
        .reduce((at, key) => (at as Record<string, unknown> | undefined)?.[key], document as unknown);
    expect(references.length).toBeGreaterThan(100);
    expect(references.map((text) => JSON.parse(text) as string).filter((path) => find(path) === undefined)).toEqual([]);
  });

  test("has every client frame, every push, every ack as the reply to its frame, and every close code", () => {
    const ofSocket = operations.filter(({ channel }) => nameOf(channel) === "realtime");
    const received = ofSocket.filter(({ action }) => action === "receive");
    const sent = ofSocket.filter(({ action }) => action === "send");
    expect(received.flatMap(({ messages }) => typesOf(messages)).sort()).toEqual(Object.keys(clientFrames).sort());
    const { ack: _, pong: __, ...others } = pushes;
    expect(sent.flatMap(({ messages }) => typesOf(messages)).sort()).toEqual(Object.keys(others).sort());
    const answered = received.map(({ messages, reply }) => [...typesOf(messages), ...typesOf(reply?.messages ?? [])]);
    for (const [type = "", ...answers] of answered) {
      const first = type in acks ? ["ack"] : type === "ping" ? ["pong"] : [];
      expect({ type, answers }).toEqual({ type, answers: [...first, "error"] });
    }
    const listed = Object.values(document.channels).flatMap(({ messages }) => Object.keys(messages));
    expect([...new Set(listed)].sort()).toEqual(Object.keys(document.components.messages).sort());
    const codes = document.channels.realtime["x-close-codes"];
    expect(codes.map(({ code }) => code)).toEqual(Object.values(closeCodes).map(({ code }) => code));
    expect(codes.filter(({ code, reconnect }) => reconnect !== code < 4500)).toEqual([]);
  });

  test("has the events of streams and the bodies of webhooks", () => {
    const typesIn = (channel: keyof Document["channels"]) =>
      typesOf(Object.values(document.channels[channel].messages));
    expect(typesIn("events").sort()).toEqual(
      [...Object.keys(durableEvents), ...Object.keys(ephemeralEvents), "error"].sort(),
    );
    expect(typesIn("replies").filter((type) => !/^message\.|^error$/.test(type))).toEqual([]);
    expect(typesIn("webhooks").sort()).toEqual([...webhookEventTypes, TEST_EVENT].sort());
    expect(document.channels.webhooks.address).toBeNull();
  });

  test("names every limit that `ready` announces, with its value", () => {
    const limits = Object.fromEntries(document.channels.realtime["x-limits"].map(({ name, value }) => [name, value]));
    expect(limits).toMatchObject(shownLimits);
  });

  test("has valid examples of every message", () => {
    const invalid = Object.entries(document.components.messages).flatMap(([name, { payload, examples }]) => {
      const validate = compile(nameOf(payload), { isClosed: true });
      return examples.filter((example) => !validate(example.payload)).map(() => ({ name, errors: validate.errors }));
    });
    expect(invalid).toEqual([]);
    const examples = Object.values(document.components.messages).map((message) => message.examples.length);
    expect(Math.min(...examples)).toBeGreaterThan(0);
  });

  test("passes AsyncAPI's own parser without errors or warnings", async () => {
    const { Parser } = await import("@asyncapi/parser");
    const parser = new Parser();
    const find = async (asyncapi: object) => {
      const { diagnostics } = await parser.parse(JSON.stringify(asyncapi));
      return diagnostics.map(({ severity, code, path }) => ({ severity, code, path: path.join("/") }));
    };
    // Only a hint that a newer version of AsyncAPI exists.
    expect(await find(addressed)).toEqual([{ severity: 2, code: "asyncapi-latest-version", path: "asyncapi" }]);
    const { realtime: _, ...others } = document.channels;
    expect((await find({ ...document, channels: others })).some(({ severity }) => severity === 0)).toBe(true);
  });

  test("uses each schema name once, and only keywords that other tools understand", () => {
    const text = JSON.stringify(document.components.schemas);
    expect(text).not.toMatch(/"format":"(?:text|line)"|"patternProperties"|"title":"/);
    expect(Object.keys(document.components.schemas)).toEqual(
      expect.arrayContaining(["Event", "Member", "Message", "MessageCreated", "SharedConversation", "User"]),
    );
    const list = createSchemaList("#/");
    list.add(Named("One", Closed({ a: Type.String() })), { isOpen: true });
    expect(() => list.add(Named("One", Closed({ a: Type.Integer() })), { isOpen: true })).toThrow("name One");
  });

  test("is the same for every installation", () => {
    expect(createAsyncApi({ version: "1.2.3" })).toEqual(document as never);
    expect(JSON.stringify(document)).not.toMatch(/localhost|127\.0\.0\.1/);
  });
});

describe("the schemas of the document", () => {
  let parley: TestApp;
  beforeAll(async () => {
    parley = await startApp();
  });
  afterAll(() => parley.stop());

  test("accept what a server sends, and what a later version may add", async () => {
    const anna = await parley.register();
    const { id: conversation_id } = await createConversation(parley, anna);
    const socket = await openSocket(parley.url, { token: anna.access_token });
    const sent = { type: "message.send", conversation_id, client_message_id: "1", content: "Hello", reply: true };
    await socket.request({ type: "subscribe", conversation_id });
    await socket.request(sent);
    await socket.waitFor(({ type }) => type === "message.completed");
    const subscribed = await socket.request({ type: "subscribe", conversation_id, after_seq: 0 });
    const { frames } = socket;
    await socket.close();

    for (const [type, name] of [
      ["ready", "ReadyFrame"],
      ["message.created", "MessageCreated"],
      ["message.delta", "MessageDelta"],
      ["message.completed", "MessageCompleted"],
    ] as const) {
      const validate = compile(name);
      const frame = frames.find((one) => one.type === type);
      for (const validFrame of [frame, { ...frame, later: 1 }])
        expect({ name, errors: validate(validFrame) ? [] : validate.errors }).toEqual({ name, errors: [] });
      const { conversation_id: _, connection_id: __, ...less } = frame as object as Record<string, unknown>;
      expect({ name, isValid: validate(less) }).toEqual({ name, isValid: false });
    }
    expect(compile("SubscribeAck")(subscribed)).toBe(true);
    expect(compile("Event")({ ...createTestEvent(conversation_id, 1), type: "message.forgotten" })).toBe(false);
    expect(compile("MessageSendFrame")({ ...sent, id: "1" })).toBe(true);
    expect(compile("MessageSendFrame")({ ...sent, id: "1", later: 1 })).toBe(false);
  });
});
