import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { connect } from "node:net";
import type { Conversation } from "../../src/protocol/conversation.ts";
import type { Message } from "../../src/protocol/message.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";

let parley: TestApp;
let anna: Account;
let ben: Account;
let outsider: Account;
let restClient: RestClient;

beforeAll(async () => {
  parley = await startApp();
  anna = await parley.register("anna@example.com", "Anna # *One*");
  ben = await parley.register("bea@example.com", "Bea");
  outsider = await parley.register("otto@example.com", "Otto");
  restClient = createRestClient(parley, anna);
});
afterAll(() => parley.stop());

const downloadExport = (account: Account, id: string, query = ""): Promise<Response> =>
  parley.fetch(`/api/v1/conversations/${id}/export${query}`, { token: account.access_token });

const sendMessage = async (id: string, json: object): Promise<Message> =>
  (await restClient.request<{ message: Message }>("POST", `/conversations/${id}/messages`, json)).body.message;

/** Stores messages directly in the database. @returns their total size in bytes. */
async function insertMessages(id: string, count: number, chars: number): Promise<number> {
  await parley.database`
    insert into messages (conversation_id, seq, id, role, content)
    select ${id}, c.last_seq + n, gen_random_uuid(), 'user', repeat('x', ${chars})
    from conversations c, generate_series(1, ${count}::int) n where c.id = ${id}`;
  await parley.database`update conversations set last_seq = last_seq + ${count} where id = ${id}`;
  return count * chars;
}

/** Starts a download that pauses after its first bytes until `readRest` is called. */
function openSlowDownload(account: Account, path: string) {
  const { hostname, port } = new URL(parley.url);
  const socket = connect(Number(port), hostname);
  socket.write(`GET ${path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${account.access_token}\r\n\r\n`);
  let bytes = 0;
  let tail = "";
  // Listens from the start, because the server may abort the download before `readRest` is called.
  const endPromise = new Promise<void>((resolve) => {
    socket.once("close", () => resolve());
    socket.once("error", () => resolve());
    socket.on("data", (chunk) => {
      bytes += chunk.length;
      tail = (tail + chunk.toString("latin1")).slice(-16);
      if (tail.endsWith("0\r\n\r\n")) resolve();
    });
  });
  const started = new Promise<void>((resolve) => {
    socket.once("data", () => {
      socket.pause();
      resolve();
    });
  });
  return {
    started,
    readRest: async (): Promise<{ bytes: number; isComplete: boolean }> => {
      socket.resume();
      await endPromise;
      socket.destroy();
      return { bytes, isComplete: tail.endsWith("0\r\n\r\n") };
    },
  };
}

describe("a conversation's export", () => {
  test("as Markdown contains all messages, and escapes titles and names", async () => {
    const { id } = await createConversation(parley, anna, [], {
      title: "# A *bold* title",
      model: "offline/documents",
    });
    const firstMessage = await sendMessage(id, { content: "# Mine\n\n```ts\nlet x = 1;\n```" });
    await sendMessage(id, { content: "A second one" });
    const branch = await sendMessage(id, { content: "Another second one", parent_id: firstMessage.id });
    const deletedMessage = await sendMessage(id, { content: "A slip of the tongue" });
    await restClient.request("DELETE", `/conversations/${id}/messages/${deletedMessage.id}`);
    const response = await downloadExport(anna, id);
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toBe("text/markdown; charset=utf-8");
    const text = await response.text();
    const time = String.raw`\d{4}-\d\d-\d\d \d\d:\d\d UTC`;
    const name = String.raw`Anna \\# \\\*One\\\*`;
    expect(text).toMatch(
      new RegExp(
        [
          String.raw`^# \\# A \\\*bold\\\* title`,
          `- Started: ${time}\n- Last activity: ${time}\n- Model: offline/documents\n- Exported: ${time}`,
          `## ${name} · ${time} · #1`,
          "# Mine\n\n```ts\nlet x = 1;\n```",
          `## ${name} · ${time} · #2`,
          "A second one",
          `## ${name} · ${time} · #${branch.seq}`,
          String.raw`\*Branch: follows message 1\*`,
          "Another second one",
          `## ${name} · ${time} · #${deletedMessage.seq}`,
          `${String.raw`\*Deleted\*`}\n$`,
        ].join("\n\n"),
      ),
    );
    expect(text).not.toContain("slip");
  });

  test("as JSON or JSON Lines contains the same conversation and messages as the API's responses", async () => {
    const { id } = await createConversation(parley, anna, [ben]);
    for (const content of ["One", "Two\nlines", "Three \u2028"]) await sendMessage(id, { content });
    const conversation = (await restClient.get<Conversation>(`/conversations/${id}`)).body;
    const messages = (await restClient.get<{ data: Message[] }>(`/conversations/${id}/messages`)).body.data;
    const jsonResponse = await downloadExport(ben, id, "?format=json");
    expect(jsonResponse.headers.get("content-type")).toBe("application/json");
    const benFields = { role: "member", last_read_seq: 0, unread: 3 };
    expect(await jsonResponse.json()).toEqual({
      exported_at: expect.any(String),
      conversation: { ...conversation, ...benFields },
      messages,
    });
    const linesResponse = await downloadExport(anna, id, "?format=jsonl");
    expect(linesResponse.headers.get("content-type")).toBe("application/jsonl");
    const text = await linesResponse.text();
    expect(text.endsWith("\n")).toBe(true);
    expect(
      text
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line)),
    ).toEqual([conversation, ...messages]);
  });

  test("is available in every format if the conversation is empty", async () => {
    const { id } = await createConversation(parley, anna, [], { title: "" });
    expect(await (await downloadExport(anna, id)).text()).toStartWith("# Untitled conversation\n\n- Started");
    expect(await (await downloadExport(anna, id, "?format=json")).json()).toMatchObject({ messages: [] });
    expect((await (await downloadExport(anna, id, "?format=jsonl")).text()).trimEnd().split("\n")).toHaveLength(1);
  });

  test("contains all messages of a long conversation", async () => {
    const { id } = await createConversation(parley, anna);
    const text = "long ".repeat(20_000);
    for (let n = 0; n < 30; n += 1) await sendMessage(id, { content: `${n} ${text}` });
    const { messages } = (await (await downloadExport(anna, id, "?format=json")).json()) as { messages: Message[] };
    expect(messages.map(({ content }) => content)).toEqual(Array.from({ length: 30 }, (_, n) => `${n} ${text}`));
  });

  test("is rejected with 404 for outsiders, and with 422 for unknown formats", async () => {
    const { id } = await createConversation(parley, anna);
    for (const query of ["", "?format=json", "?format=jsonl"]) {
      const response = await downloadExport(outsider, id, query);
      expect(response.status).toBe(404);
      expect(response.headers.get("content-disposition")).toBeNull();
      await response.body?.cancel();
    }
    expect((await downloadExport(anna, id, "?format=pdf")).status).toBe(422);
    expect((await downloadExport(anna, id, "?format=")).status).toBe(422);
  });

  test("requires an API key with the scope messages:read", async () => {
    const { id } = await createConversation(parley, anna);
    const key = await restClient.request<{ key: string }>("POST", "/api-keys", {
      name: "k",
      scopes: ["conversations:read"],
    });
    const response = await parley.fetch(`/api/v1/conversations/${id}/export`, { token: key.body.key });
    expect(response.status).toBe(403);
  });

  for (const [event, revokeAccess] of [
    [
      "the member is removed",
      (id: string) => restClient.request("DELETE", `/conversations/${id}/members/${ben.user.id}`),
    ],
    [
      "the session is revoked",
      () => parley.fetch("/api/v1/auth/logout", { json: { refresh_token: ben.refresh_token } }),
    ],
  ] as const)
    test(`is aborted if ${event} during the download`, async () => {
      ben = await parley.register(`${crypto.randomUUID()}@example.com`, "Bea");
      const { id } = await createConversation(parley, anna, [ben]);
      const totalBytes = await insertMessages(id, 300, 190_000);
      const slowDownload = openSlowDownload(ben, `/api/v1/conversations/${id}/export?format=jsonl`);
      await slowDownload.started;
      await revokeAccess(id);
      const { bytes, isComplete } = await slowDownload.readRest();
      expect(bytes).toBeGreaterThan(0);
      expect(bytes).toBeLessThan(totalBytes);
      expect(isComplete).toBe(false);
    });

  test("contains the partial text of an answer in progress", async () => {
    const { id } = await createConversation(parley, anna);
    await sendMessage(id, { content: "A question" });
    const [row] = await parley.database<{ id: string }[]>`
      insert into messages (conversation_id, seq, id, role, content, status)
      values (${id}, 2, gen_random_uuid(), 'assistant', '', 'streaming') returning id`;
    await parley.database`
      insert into generations (conversation_id, id, message_id, message_seq, status, lease_until)
      values (${id}, gen_random_uuid(), ${row?.id ?? ""}, 2, 'pending', now() + interval '1 h')`;
    await parley.database`
      insert into generation_pieces (conversation_id, generation_id, n, text)
      select conversation_id, id, 1, 'A partial text' from generations where conversation_id = ${id}`;
    await parley.database`update conversations set last_seq = 2 where id = ${id}`;
    expect(await (await downloadExport(anna, id)).text()).toMatch(/\*In progress\*\n\nA partial text\n$/);
    const { messages } = (await (await downloadExport(anna, id, "?format=json")).json()) as { messages: Message[] };
    expect(messages[1]).toMatchObject({ status: "streaming", content: "A partial text" });
    await parley.database`delete from conversations where id = ${id}`;
  });
});

describe("the file name of an export", () => {
  const getDisposition = async (title: string, format = "markdown") => {
    const { id } = await createConversation(parley, anna, [], { title });
    const response = await downloadExport(anna, id, `?format=${format}`);
    await response.body?.cancel();
    return response.headers.get("content-disposition");
  };

  test("is the title, with a fallback for clients that support only ASCII", async () => {
    expect(await getDisposition("Größe & Café", "json")).toBe(
      "attachment; filename=\"Groe & Cafe.json\"; filename*=UTF-8''Gr%C3%B6%C3%9Fe%20%26%20Caf%C3%A9.json",
    );
  });

  test("can't contain a path, start with a dot, or add a header parameter", async () => {
    expect(await getDisposition('../../etc/"passwd"; x=')).toBe(
      "attachment; filename=\"etc passwd x=.md\"; filename*=UTF-8''etc%20passwd%20x%3D.md",
    );
    expect(await getDisposition("...")).toBe(
      "attachment; filename=\"conversation.md\"; filename*=UTF-8''conversation.md",
    );
    expect(await getDisposition("日本", "jsonl")).toBe(
      "attachment; filename=\"conversation.jsonl\"; filename*=UTF-8''%E6%97%A5%E6%9C%AC.jsonl",
    );
  });
});
