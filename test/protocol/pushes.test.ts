import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { clientFrames } from "../../src/protocol/frames.ts";
import { acks, pushes } from "../../src/protocol/pushes.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { findMessageError } from "../support/conformance/messages.ts";
import { createConversation } from "../support/conversation.ts";
import { openSocket } from "../support/socket.ts";
import { createTestEvent } from "../support/test-events.ts";

let parley: TestApp;
let anna: Account;
let ben: Account;

beforeAll(async () => {
  parley = await startApp();
  [anna, ben] = await Promise.all([parley.register(), parley.register()]);
});
afterAll(() => parley.stop());

describe("the table of pushes", () => {
  test("has a unique name for each schema", () => {
    const { ack: _, ...otherPushes } = pushes;
    const schemas = [...Object.values(clientFrames), ...Object.values(acks), ...Object.values(otherPushes)];
    const names = schemas.map(({ title }) => title);
    expect(names.filter((name) => !/^[A-Z][A-Za-z]+$/.test(name ?? ""))).toEqual([]);
    expect(names).toHaveLength(new Set(names).size);
    for (const { title, description } of schemas)
      expect({ title, description }).toEqual({ title, description: expect.stringMatching(/^[A-Z].+\.$/) });
  });

  test("has an ack for each client frame", async () => {
    const { id: conversation_id } = await createConversation(parley, anna, [ben]);
    const socket = await openSocket(parley.url, { token: anna.access_token });
    const requestAck = async (frame: { type: keyof typeof clientFrames; [field: string]: unknown }) => {
      const ack = await socket.request(frame);
      expect({ type: frame.type, ack }).toMatchObject({ type: frame.type, ack: { type: "ack" } });
      return ack as { message?: { id: string } };
    };
    const sendMessage = (client_message_id: string, reply: boolean) =>
      requestAck({ type: "message.send", conversation_id, client_message_id, content: "text", reply });
    await requestAck({ type: "auth", token: anna.access_token });
    await requestAck({ type: "subscribe", conversation_id });
    await sendMessage("1", true);
    const { data } = await socket.waitFor(({ type }) => type === "message.completed");
    await requestAck({ type: "generation.regenerate", message_id: data?.id });
    await socket.waitFor(({ type, data: { id } = {} }) => type === "message.completed" && id !== data?.id);
    await requestAck({ type: "generation.cancel", message_id: data?.id });
    const { message } = await sendMessage("2", false);
    await requestAck({ type: "message.edit", message_id: message?.id, content: "other" });
    await requestAck({ type: "message.delete", message_id: message?.id });
    await requestAck({ type: "read", conversation_id, seq: 1 });
    await requestAck({ type: "subscribe", conversation_id, after_seq: 0 });
    await requestAck({ type: "unsubscribe", conversation_id });
    await requestAck({ type: "inbox.subscribe" });
    await requestAck({ type: "inbox.unsubscribe" });
    await socket.close();
    const sentTypes = [
      ...["auth", "subscribe", "message.send", "generation.regenerate", "generation.cancel", "message.edit"],
      ...["message.delete", "read", "unsubscribe", "inbox.subscribe", "inbox.unsubscribe"],
    ];
    expect(Object.keys(acks).sort()).toEqual(sentTypes.sort());
  });
});

describe("the test clients' check of received messages", () => {
  const id = "0190e6f0-0000-7000-8000-000000000000";
  const event = createTestEvent(id, 1);
  const findError = (push: unknown, to?: string) => findMessageError("realtime", push, to);

  test("finds additional, missing and mistyped fields, even in nested data", () => {
    expect(findError(event)).toBeNull();
    expect(findError({ ...event, color: "red" })).toContain("/color");
    expect(findError({ ...event, data: { ...event.data, color: "red" } })).toContain("/data/color");
    expect(findError({ ...event, seq: undefined })).toContain("/seq");
    expect(findError({ ...event, seq: "1" })).toContain("/seq");
    expect(findError({ type: "shout" })).toBe("The message shout is not in contract/asyncapi.json (realtime).");
    expect(findError({ type: "error", id: null, code: "tired", detail: "", temporary: true })).toContain("/code");
    expect(findError(null)).toBe("The message undefined is not in contract/asyncapi.json (realtime).");
  });

  test("compares an ack with the frame that it responds to", () => {
    const ack = { type: "ack", id: "1", last_read_seq: 1 };
    expect(findError(ack)).toBeNull();
    expect(findError(ack, "read")).toBeNull();
    expect(findError(ack, "message.send")).toContain("/message");
    expect(findError(ack, "ping")).toBe("The frame ping has no ack in contract/asyncapi.json.");
  });
});
