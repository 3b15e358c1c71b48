import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Conversation } from "../../src/protocol/conversation.ts";
import type { Message } from "../../src/protocol/message.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createChatGptConversation, EXPORT_START_S, importFile } from "../support/imports.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";

let parley: TestApp;
let account: Account;
let restClient: RestClient;

beforeAll(async () => {
  parley = await startApp();
  account = await parley.register("anna@example.com", "Anna");
  restClient = createRestClient(parley, account);
});
afterAll(() => parley.stop());

const formatExportTime = (n: number) => new Date((EXPORT_START_S + n) * 1_000).toISOString();

async function findByTitle(title: string): Promise<Conversation> {
  const { rows } = await restClient.listAll<Conversation>("/conversations", 200);
  const matchingConversations = rows.filter((row) => row.title === title);
  expect(matchingConversations).toHaveLength(1);
  return matchingConversations[0] as Conversation;
}

const listMessages = async ({ id }: Conversation) =>
  (await restClient.get<{ data: Message[] }>(`/conversations/${id}/messages?limit=200`)).body.data;

describe("a ChatGPT conversation", () => {
  test("is imported with its title, times, models and messages, and is marked as read", async () => {
    const file = [
      createChatGptConversation("c-1", {
        Hello: {},
        "Hi there": { model: "gpt-4o" },
        "How are you?": {},
        Fine: { model: "o3" },
      }),
    ];
    const result = await importFile(parley, account, "chatgpt", file);
    expect(result).toMatchObject({
      source: "chatgpt",
      status: "done",
      imported: 1,
      skipped: 0,
      conversations: 1,
      messages: 4,
      report: [],
      error: null,
    });
    const conversation = await findByTitle("Title of c-1");
    expect(conversation).toMatchObject({
      kind: "direct",
      role: "owner",
      reply_mode: "always",
      last_seq: 4,
      last_read_seq: 4,
      unread: 0,
      created_at: formatExportTime(0),
      updated_at: formatExportTime(4),
      metadata: { import: { source: "chatgpt", id: "c-1" } },
    });
    const messages = await listMessages(conversation);
    expect(
      messages.map(({ seq, role, content, model, supplied, status, created_at }) => ({
        seq,
        role,
        content,
        model,
        supplied,
        status,
        created_at,
      })),
    ).toEqual([
      {
        seq: 1,
        role: "user",
        content: "Hello",
        model: null,
        supplied: false,
        status: "complete",
        created_at: formatExportTime(1),
      },
      {
        seq: 2,
        role: "assistant",
        content: "Hi there",
        model: "gpt-4o",
        supplied: true,
        status: "complete",
        created_at: formatExportTime(2),
      },
      {
        seq: 3,
        role: "user",
        content: "How are you?",
        model: null,
        supplied: false,
        status: "complete",
        created_at: formatExportTime(3),
      },
      {
        seq: 4,
        role: "assistant",
        content: "Fine",
        model: "o3",
        supplied: true,
        status: "complete",
        created_at: formatExportTime(4),
      },
    ]);
    expect(messages.map(({ author }) => author?.display_name ?? null)).toEqual(["Anna", null, "Anna", null]);
    expect(messages.map(({ parent_id }) => parent_id)).toEqual([null, ...messages.slice(0, 3).map(({ id }) => id)]);
  });
});

describe("the import of a ChatGPT conversation", () => {
  const importConversation = async (
    id: string,
    input: Parameters<typeof createChatGptConversation>[1],
    otherFields: object = {},
  ) => {
    const result = await importFile(parley, account, "chatgpt", [createChatGptConversation(id, input, otherFields)]);
    const [row] = await parley.database<{ conversation_id: string }[]>`
      select conversation_id from import_sources where source_id = ${id}`;
    const messages = row ? await listMessages({ id: row.conversation_id } as Conversation) : [];
    return { result, messages };
  };

  test("skips hidden messages and tool messages, and reports the number of skipped visible parts", async () => {
    const { result, messages } = await importConversation("kinds", {
      instructions: { role: "system", text: "", metadata: { is_visually_hidden_from_conversation: true } },
      profile: {
        role: "user",
        content: { content_type: "user_editable_context", user_profile: "x" },
        metadata: { is_visually_hidden_from_conversation: true },
      },
      question: {
        role: "user",
        content: {
          content_type: "multimodal_text",
          parts: [
            { content_type: "image_asset_pointer", asset_pointer: "file-service://a" },
            "What is this?",
            "",
            { content_type: "image_asset_pointer" },
          ],
        },
        metadata: {
          attachments: [
            { name: "a.png", mime_type: "image/png" },
            { name: "b.pdf", mime_type: "application/pdf" },
          ],
        },
      },
      thoughts: { role: "assistant", content: { content_type: "thoughts", thoughts: [{ summary: "s" }] } },
      search: { role: "assistant", content: { content_type: "code", text: "search('x')" }, recipient: "web" },
      found: { role: "tool", text: "results" },
      code: { role: "assistant", content: { content_type: "code", language: "python", text: "print('```')" } },
      empty: { role: "assistant", content: { content_type: "text", parts: [""] } },
      none: { role: "assistant", content: { content_type: "text", parts: [] } },
      spoken: {
        role: "assistant",
        content: {
          content_type: "multimodal_text",
          parts: [{ content_type: "audio_transcription", text: "Said aloud" }, { content_type: "audio_asset_pointer" }],
        },
      },
      strange: { role: "assistant", content: { content_type: "hologram", volume: 3 } },
    });
    expect(messages.map(({ role, content }) => [role, content])).toEqual([
      ["user", "What is this?"],
      ["assistant", "````python\nprint('```')\n````"],
      ["assistant", "Said aloud"],
    ]);
    expect(messages.map(({ parent_id }) => parent_id)).toEqual([null, messages[0]?.id ?? "", messages[1]?.id ?? ""]);
    expect(result.report).toEqual([
      {
        title: "Title of kinds",
        reason:
          "Left out: 1 file, 2 images, 1 reasoning passage, 2 tool messages, 1 audio recording, 1 part of an unknown kind.",
      },
    ]);
    expect(result).toMatchObject({ imported: 1, skipped: 0 });
  });

  test("imports visible system messages", async () => {
    const { messages } = await importConversation("system", {
      rules: { role: "system", text: "Be kind." },
      Hello: { role: "user" },
    });
    expect(
      messages.map(({ role, content, author, supplied }) => ({
        role,
        content,
        author: author?.display_name ?? null,
        supplied,
      })),
    ).toEqual([
      { role: "system", content: "Be kind.", author: null, supplied: false },
      { role: "user", content: "Hello", author: "Anna", supplied: false },
    ]);
  });

  test("removes characters that can't be stored, and truncates long messages", async () => {
    const { result, messages } = await importConversation(
      "texts",
      {
        a: { text: "nul \u0000 and \ud800 and \u0007 and e\u0301" },
        b: { text: `${"y".repeat(199_999)}😀 end` },
      },
      { title: `A\ntitle\u0000 with \u202e much \ud800${"t".repeat(300)}` },
    );
    expect(messages[0]?.content).toBe("nul  and \ufffd and  and \u00e9");
    expect(messages[1]?.content).toBe("y".repeat(199_999));
    expect(result.report.map(({ reason }) => reason)).toEqual(["1 long message was truncated."]);
    expect(result.report[0]?.title).toStartWith("A title with much \ufffdttt");
    expect(result.report[0]?.title.length).toBeLessThanOrEqual(200);
  });

  test("ignores an invisible title", async () => {
    const { result, messages } = await importConversation(
      "unseen",
      { a: { text: "hello" } },
      { title: "\u3164\u200b \u2800" },
    );
    expect(messages).toHaveLength(1);
    const title = (await restClient.get<Conversation>(`/conversations/${messages[0]?.conversation_id}`)).body.title;
    expect({ title, imported: result.imported }).toEqual({ title: "", imported: 1 });
  });

  test("replaces an invalid or future time with the previous message's time", async () => {
    const startedAtMs = Date.now();
    const { messages } = await importConversation(
      "times",
      {
        none: { at: null },
        text: { at: String(EXPORT_START_S + 50) },
        old: { at: -11_676_096_000 },
        future: { at: 99_999_999_999 },
        wrong: { at: "soon" },
        iso: { at: "2023-11-15T00:00:00Z" },
      },
      { create_time: null, update_time: "never" },
    );
    const creationTimes = messages.map(({ created_at }) => created_at);
    expect(creationTimes.slice(1)).toEqual([
      formatExportTime(50),
      formatExportTime(50),
      formatExportTime(50),
      formatExportTime(50),
      "2023-11-15T00:00:00.000Z",
    ]);
    expect(new Date(creationTimes[0] ?? "").getTime()).toBeGreaterThanOrEqual(startedAtMs - 60_000);
    expect(new Date(creationTimes[0] ?? "").getTime()).toBeLessThanOrEqual(Date.now());
    expect((await findByTitle("Title of times")).updated_at).toBe("2023-11-15T00:00:00.000Z");
  });

  test("includes every message once, even with cycles or missing parents", async () => {
    const { result, messages } = await importConversation("circle", {
      a: { parent: "b" },
      b: { parent: "a" },
      own: { parent: "own" },
      lost: { parent: "nowhere" },
    });
    expect(result).toMatchObject({ status: "done", imported: 1, messages: messages.length });
    expect(
      messages
        .map(({ content }) => content)
        .filter((content) => content !== "")
        .sort(),
    ).toEqual(["a", "b", "lost", "own"]);
    const seqs = new Map(messages.map(({ id, seq }) => [id, seq]));
    for (const { parent_id, seq } of messages) if (parent_id) expect(seqs.get(parent_id) ?? 1e9).toBeLessThan(seq);
  });

  test("skips malformed nodes", async () => {
    const mapping = {
      a: null,
      b: 7,
      c: "x",
      d: [],
      e: {},
      f: { message: 5 },
      g: { message: { author: "user", content: "x" } },
      h: {
        message: { author: { role: "user" }, content: { parts: [1, null, [], {}, "Found"] } },
        children: "none",
        parent: 3,
      },
      __proto__: null,
    };
    const result = await importFile(parley, account, "chatgpt", [
      { title: 7, mapping, current_node: {}, conversation_id: "forms", create_time: {} },
    ]);
    expect(result).toMatchObject({ imported: 1, messages: 1 });
    const [row] = await parley.database`
      select m.content from import_sources s join messages m on m.conversation_id = s.conversation_id where s.source_id = 'forms'`;
    expect(row).toEqual({ content: "Found" });
  });
});
