import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Message } from "../../src/protocol/message.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createClaudeConversation, EXPORT_START_S, importFile } from "../support/imports.ts";
import { createRestClient } from "../support/rest.ts";

let parley: TestApp;
let account: Account;

beforeAll(async () => {
  parley = await startApp();
  account = await parley.register("anna@example.com", "Anna");
});
afterAll(() => parley.stop());

async function listMessages(sourceId: string): Promise<Message[]> {
  const [row] = await parley.database<{ conversation_id: string }[]>`
    select conversation_id from import_sources where source = 'claude' and source_id = ${sourceId}`;
  const path = `/conversations/${row?.conversation_id}/messages?limit=200`;
  return (await createRestClient(parley, account).get<{ data: Message[] }>(path)).body.data;
}

const formatExportTime = (n: number) => new Date((EXPORT_START_S + n) * 1_000).toISOString();

test("a Claude conversation is imported unchanged", async () => {
  const result = await importFile(parley, account, "claude", [
    createClaudeConversation("u-1", ["Hello", "Hi", "More?", "More."]),
  ]);
  expect(result).toMatchObject({ source: "claude", status: "done", imported: 1, messages: 4, report: [] });
  const messages = await listMessages("u-1");
  expect(messages.map(({ role, content, created_at, supplied }) => [role, content, created_at, supplied])).toEqual([
    ["user", "Hello", formatExportTime(1), false],
    ["assistant", "Hi", formatExportTime(2), true],
    ["user", "More?", formatExportTime(3), false],
    ["assistant", "More.", formatExportTime(4), true],
  ]);
  expect(messages.map(({ parent_id }) => parent_id)).toEqual([null, ...messages.slice(0, 3).map(({ id }) => id)]);
});

test("the text of attachments is added to the message, and the number of skipped parts is reported", async () => {
  const chatMessages = [
    {
      uuid: "a",
      sender: "human",
      text: "Read this",
      content: [{ type: "text", text: "Read this" }],
      attachments: [{ file_name: "notes.txt", extracted_content: "line 1\nline 2" }, { file_name: "empty.bin" }],
      files: [{ file_name: "photo.png" }],
      created_at: formatExportTime(1),
    },
    {
      uuid: "b",
      sender: "assistant",
      text: "",
      content: [
        { type: "thinking", thinking: "hm" },
        { type: "text", text: "First." },
        { type: "tool_use", name: "x", input: {} },
        { type: "tool_result", content: [] },
        { type: "text", text: "Then." },
      ],
      created_at: formatExportTime(2),
    },
    { uuid: "c", sender: "human", text: "Only a text", created_at: formatExportTime(3) },
    { uuid: "d", sender: "narrator", text: "Nobody" },
    { uuid: "e", sender: "assistant", text: "", content: null },
  ];
  const result = await importFile(parley, account, "claude", [
    createClaudeConversation("u-2", [], { chat_messages: chatMessages }),
  ]);
  expect((await listMessages("u-2")).map(({ role, content }) => [role, content])).toEqual([
    ["user", "Read this\n\nnotes.txt\n\nline 1\nline 2"],
    ["assistant", "First.\n\nThen."],
    ["user", "Only a text"],
  ]);
  expect(result.report).toEqual([
    {
      title: "Title of u-2",
      reason: "Left out: 2 files, 1 reasoning passage, 2 tool messages, 1 part of an unknown kind.",
    },
  ]);
});

test("messages with parent IDs are imported as branches", async () => {
  const createMessage = (uuid: string, sender: string, parent: string, n: number) => ({
    uuid,
    sender,
    text: uuid,
    parent_message_uuid: parent,
    created_at: formatExportTime(n),
  });
  const rootId = "00000000-0000-4000-8000-000000000000";
  const chatMessages = [
    createMessage("q1", "human", rootId, 1),
    createMessage("a1", "assistant", "q1", 2),
    createMessage("q2", "human", "a1", 3),
    createMessage("a2", "assistant", "q2", 4),
    createMessage("a2 again", "assistant", "q2", 6),
    createMessage("q2 edited", "human", "a1", 5),
  ];
  await importFile(parley, account, "claude", [createClaudeConversation("u-3", [], { chat_messages: chatMessages })]);
  const messages = await listMessages("u-3");
  const contentsById = new Map(messages.map(({ id, content }) => [id, content]));
  expect(messages.map(({ content, parent_id }) => [content, contentsById.get(parent_id ?? "") ?? null])).toEqual([
    ["q1", null],
    ["a1", "q1"],
    ["q2 edited", "a1"],
    ["q2", "a1"],
    ["a2", "q2"],
    ["a2 again", "q2"],
  ]);
});

test("messages without IDs are imported", async () => {
  const chatMessages = [
    { sender: "human", text: "One" },
    { sender: "assistant", text: "Two" },
    { sender: "human", text: "Three" },
  ];
  await importFile(parley, account, "claude", [createClaudeConversation("u-4", [], { chat_messages: chatMessages })]);
  expect((await listMessages("u-4")).map(({ content }) => content)).toEqual(["One", "Two", "Three"]);
});

test("messages with the same ID or with a role instead of a sender are imported, and unknown senders are reported", async () => {
  const chatMessages = [
    { uuid: "same", sender: "human", text: "One" },
    { uuid: "same", role: "assistant", text: "Two" },
    { uuid: "other", sender: "moderator", text: "Three" },
    null,
  ];
  const result = await importFile(parley, account, "claude", [
    { uuid: "u-odd", name: "Odd", chat_messages: chatMessages },
  ]);
  expect((await listMessages("u-odd")).map(({ role, content }) => [role, content])).toEqual([
    ["user", "One"],
    ["assistant", "Two"],
  ]);
  expect(result.report).toEqual([{ title: "Odd", reason: "Left out: 2 parts of unknown kinds." }]);
});
