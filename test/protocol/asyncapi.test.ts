import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import specification from "@asyncapi/specs/schemas/3.0.0-without-$id.json";
import { Type } from "@sinclair/typebox";
import Ajv, { type ValidateFunction } from "ajv";
import { Closed, Named } from "../../src/lib/schema.ts";
import { TEST_EVENT, webhookEventTypes } from "../../src/modules/webhooks/model.ts";
import { createAsyncApi, setAsyncApiServer } from "../../src/protocol/asyncapi.ts";
import { closeCodes } from "../../src/protocol/close-codes.ts";
import { durableEvents, ephemeralEvents } from "../../src/protocol/events.ts";
import { clientFrames } from "../../src/protocol/frames.ts";
import { announcedLimits } from "../../src/protocol/limits.ts";
import { acks, pushes } from "../../src/protocol/pushes.ts";
import { createSchemaList } from "../../src/protocol/schema-list.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { disallowExtraFields } from "../support/conformance/disallow-extra-fields.ts";
import { createConversation } from "../support/conversation.ts";
import { openSocket } from "../support/socket.ts";
import { createTestEvent } from "../support/test-events.ts";

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
const documentWithHost = setAsyncApiServer(document as never, {
  host: "chat.example.com:8443",
  pathname: "",
  isSecure: true,
});
const operations = Object.values(document.operations);
const getName = ({ $ref }: Ref) => $ref.split("/").at(-1) ?? "";
const listTypes = (refs: Ref[]) => refs.map((ref) => document.components.messages[getName(ref)]?.name ?? "nothing");

const createAjv = (asyncApi: object) =>
  new Ajv({ strict: false, validateFormats: false }).addSchema({ $id: "document", ...asyncApi });
const openAjv = createAjv(document);
const closedAjv = createAjv(disallowExtraFields(document as never) as object);

/**
 * Compiles a schema with only the AsyncAPI document, as users of the document do.
 * @param isClosed Rejects fields that the document doesn't list.
 */
function compileSchema(name: string, { isClosed = false } = {}): ValidateFunction {
  const ajv = isClosed ? closedAjv : openAjv;
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
    const resolvePath = (path: string) =>
      path
        .split("/")
        .slice(1)
        .reduce((value, key) => (value as Record<string, unknown> | undefined)?.[key], document as unknown);
    expect(references.length).toBeGreaterThan(100);
    expect(
      references.map((text) => JSON.parse(text) as string).filter((path) => resolvePath(path) === undefined),
    ).toEqual([]);
  });

  test("has every client frame with its replies, every push and every close code", () => {
    const realtimeOperations = operations.filter(({ channel }) => getName(channel) === "realtime");
    const receiveOperations = realtimeOperations.filter(({ action }) => action === "receive");
    const sendOperations = realtimeOperations.filter(({ action }) => action === "send");
    expect(receiveOperations.flatMap(({ messages }) => listTypes(messages)).sort()).toEqual(
      Object.keys(clientFrames).sort(),
    );
    const { ack: _, pong: __, ...otherPushes } = pushes;
    expect(sendOperations.flatMap(({ messages }) => listTypes(messages)).sort()).toEqual(
      Object.keys(otherPushes).sort(),
    );
    const typesWithReplies = receiveOperations.map(({ messages, reply }) => [
      ...listTypes(messages),
      ...listTypes(reply?.messages ?? []),
    ]);
    for (const [type = "", ...replies] of typesWithReplies) {
      const success = type in acks ? ["ack"] : type === "ping" ? ["pong"] : [];
      expect({ type, replies }).toEqual({ type, replies: [...success, "error"] });
    }
    const listedMessages = Object.values(document.channels).flatMap(({ messages }) => Object.keys(messages));
    expect([...new Set(listedMessages)].sort()).toEqual(Object.keys(document.components.messages).sort());
    const codes = document.channels.realtime["x-close-codes"];
    expect(codes.map(({ code }) => code)).toEqual(Object.values(closeCodes).map(({ code }) => code));
    expect(codes.filter(({ code, reconnect }) => reconnect !== code < 4500)).toEqual([]);
  });

  test("has all stream events and webhook bodies", () => {
    const listChannelTypes = (channel: keyof Document["channels"]) =>
      listTypes(Object.values(document.channels[channel].messages));
    expect(listChannelTypes("events").sort()).toEqual(
      [...Object.keys(durableEvents), ...Object.keys(ephemeralEvents), "error"].sort(),
    );
    expect(listChannelTypes("replies").filter((type) => !/^message\.|^error$/.test(type))).toEqual([]);
    expect(listChannelTypes("webhooks").sort()).toEqual([...webhookEventTypes, TEST_EVENT].sort());
    expect(document.channels.webhooks.address).toBeNull();
  });

  test("lists every limit that `ready` announces, with its value", () => {
    const limits = Object.fromEntries(document.channels.realtime["x-limits"].map(({ name, value }) => [name, value]));
    expect(limits).toMatchObject(announcedLimits);
  });

  test("has valid examples for every message", () => {
    const invalidExamples = Object.entries(document.components.messages).flatMap(([name, { payload, examples }]) => {
      const validate = compileSchema(getName(payload), { isClosed: true });
      return examples.filter((example) => !validate(example.payload)).map(() => ({ name, errors: validate.errors }));
    });
    expect(invalidExamples).toEqual([]);
    const examples = Object.values(document.components.messages).map((message) => message.examples.length);
    expect(Math.min(...examples)).toBeGreaterThan(0);
  });

  test("passes AsyncAPI's own parser without errors or warnings", async () => {
    const { Parser } = await import("@asyncapi/parser");
    const parser = new Parser();
    const diagnose = async (asyncapi: object) => {
      const { diagnostics } = await parser.parse(JSON.stringify(asyncapi));
      return diagnostics.map(({ severity, code, path }) => ({ severity, code, path: path.join("/") }));
    };
    // The only diagnostic is a hint that a newer version of AsyncAPI exists.
    expect(await diagnose(documentWithHost)).toEqual([
      { severity: 2, code: "asyncapi-latest-version", path: "asyncapi" },
    ]);
    const { realtime: _, ...otherChannels } = document.channels;
    expect((await diagnose({ ...document, channels: otherChannels })).some(({ severity }) => severity === 0)).toBe(
      true,
    );
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

describe("the AsyncAPI document's schemas", () => {
  let parley: TestApp;
  beforeAll(async () => {
    parley = await startApp();
  });
  afterAll(() => parley.stop());

  test("accept frames from this server, and from a later version with more fields", async () => {
    const anna = await parley.register();
    const { id: conversation_id } = await createConversation(parley, anna);
    const socket = await openSocket(parley.url, { token: anna.access_token });
    const sentFrame = { type: "message.send", conversation_id, client_message_id: "1", content: "Hello", reply: true };
    await socket.request({ type: "subscribe", conversation_id });
    await socket.request(sentFrame);
    await socket.waitFor(({ type }) => type === "message.completed");
    const subscribeAck = await socket.request({ type: "subscribe", conversation_id, after_seq: 0 });
    const { frames } = socket;
    await socket.close();

    for (const [type, name] of [
      ["ready", "ReadyFrame"],
      ["message.created", "MessageCreated"],
      ["message.delta", "MessageDelta"],
      ["message.completed", "MessageCompleted"],
    ] as const) {
      const validate = compileSchema(name);
      const frame = frames.find((candidate) => candidate.type === type);
      for (const validFrame of [frame, { ...frame, later: 1 }])
        expect({ name, errors: validate(validFrame) ? [] : validate.errors }).toEqual({ name, errors: [] });
      const { conversation_id: _, connection_id: __, ...incomplete } = frame as object as Record<string, unknown>;
      expect({ name, isValid: validate(incomplete) }).toEqual({ name, isValid: false });
    }
    expect(compileSchema("SubscribeAck")(subscribeAck)).toBe(true);
    expect(compileSchema("Event")({ ...createTestEvent(conversation_id, 1), type: "message.unknown" })).toBe(false);
    expect(compileSchema("MessageSendFrame")({ ...sentFrame, id: "1" })).toBe(true);
    expect(compileSchema("MessageSendFrame")({ ...sentFrame, id: "1", later: 1 })).toBe(false);
  });
});
