import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createImportJob } from "../../src/modules/imports/job.ts";
import type { Import } from "../../src/modules/imports/model.ts";
import { compressPiece, insertPiece } from "../../src/modules/imports/pieces.ts";
import type { Conversation } from "../../src/protocol/conversation.ts";
import { type ModelApp, startModelApp } from "../generations/start-model-app.ts";
import type { Account } from "../support/app.ts";
import {
  createChatGptConversation,
  createClaudeConversation,
  importFile,
  uploadFile,
  waitForImport,
} from "../support/imports.ts";
import { createRestClient } from "../support/rest.ts";

let app: ModelApp;
let anna: Account;

beforeAll(async () => {
  app = await startModelApp({ QUOTA_CONVERSATIONS: "40", QUOTA_STORED_BYTES: "3000000" });
  anna = await app.parley.register("anna@example.com", "Anna");
});
afterAll(() => app.stop());

const runImport = (source: string, file: unknown, account = anna) => importFile(app.parley, account, source, file);
const createChat = (id: string, otherFields: object = {}) =>
  createChatGptConversation(id, { Question: {}, Answer: { model: "gpt-4o" } }, otherFields);
const listConversations = async (account = anna) =>
  (await createRestClient(app.parley, account).listAll<Conversation>("/conversations", 200)).rows;
const findConversationId = async (sourceId: string) => {
  const [row] = await app.parley.database<{ id: string }[]>`
    select conversation_id as id from import_sources where source_id = ${sourceId}`;
  return row?.id ?? "";
};

describe("an imported conversation", () => {
  test("can be continued with a model, which receives the current branch", async () => {
    const file = [
      createChatGptConversation("continued", {
        First: {},
        "First answer": {},
        "Left question": { parent: "First answer" },
        "Left answer": {},
        "Right question": { role: "user", parent: "First answer" },
        "Right answer": { role: "assistant" },
      }),
    ];
    await runImport("chatgpt", file);
    await app.sendMessage(anna, await findConversationId("continued"), "And now?");
    expect(app.getReceivedMessages()).toEqual([
      { role: "user", content: "First" },
      { role: "assistant", content: "First answer" },
      { role: "user", content: "Right question" },
      { role: "assistant", content: "Right answer" },
      { role: "user", content: "And now?" },
    ]);
    const conversation = (await listConversations()).find(({ title }) => title === "Title of continued");
    expect(conversation).toMatchObject({ last_seq: 9, last_read_seq: 7, unread: 1 });
  });

  test("is sorted by its newest message's time, and has only message.created events", async () => {
    const { id } = await app.createConversation(anna, [], { title: "Before" });
    await runImport("chatgpt", [createChat("older")]);
    const titles = (await listConversations()).map(({ title }) => title);
    expect(titles.indexOf("Title of older")).toBeGreaterThan(titles.indexOf("Before"));
    const importedId = await findConversationId("older");
    const events = await createRestClient(app.parley, anna).get<{ data: { type: string }[] }>(
      `/conversations/${importedId}/events?after_seq=0`,
    );
    expect(events.body.data.map(({ type }) => type)).toEqual(["message.created", "message.created"]);
    expect(await app.parley.database`select 1 from events where conversation_id = ${importedId}`).toHaveLength(0);
    expect(id).not.toBe(importedId);
  });

  test("has counters that match a recount", async () => {
    const [mismatch] = await app.parley.database<{ count: number }[]>`
      select count(*)::int from conversations c join import_sources s on s.conversation_id = c.id
      join members m on m.conversation_id = c.id
      cross join lateral (
        select count(*) as messages, max(x.seq) as last, min(x.seq) as first,
          sum(octet_length(x.content)) filter (where x.author_id is not null or x.supplied_by is not null) as bytes
        from messages x where x.conversation_id = c.id
      ) x
      where c.message_count <> x.messages or m.read_count > x.messages or m.written_bytes <> x.bytes
        or x.first <> 1 or x.last - x.first + 1 <> x.messages or x.last > c.last_seq`;
    expect(mismatch?.count).toBe(0);
  });
});

describe("importing the same file again", () => {
  test("adds only new conversations, in any order", async () => {
    const firstImport = await runImport("chatgpt", [createChat("a"), createChat("b")]);
    expect(firstImport).toMatchObject({ imported: 2, skipped: 0 });
    const conversationsBefore = await listConversations();
    const secondImport = await runImport("chatgpt", [createChat("a"), createChat("b")]);
    expect(secondImport).toMatchObject({ status: "done", imported: 0, skipped: 2, conversations: 2, messages: 0 });
    expect(secondImport.report).toEqual(
      ["a", "b"].map((id) => ({ title: `Title of ${id}`, reason: "It was already imported." })),
    );
    expect(await listConversations()).toEqual(conversationsBefore);
    expect(await runImport("chatgpt", [createChat("c"), createChat("b"), createChat("a")])).toMatchObject({
      imported: 1,
      skipped: 2,
    });
    expect(await listConversations()).toHaveLength(conversationsBefore.length + 1);
  });

  test("recognizes conversations without IDs by their content, even within one file", async () => {
    const withoutId = { conversation_id: undefined };
    const file = [
      createChat("d", { ...withoutId, title: "Without ID" }),
      createChat("d", { ...withoutId, title: "Without ID" }),
      createChat("e", { ...withoutId, title: "Other" }),
    ];
    expect(await runImport("chatgpt", file)).toMatchObject({ imported: 2, skipped: 1 });
    expect(await runImport("chatgpt", file)).toMatchObject({ imported: 0, skipped: 3 });
  });

  test("restores a deleted conversation", async () => {
    await runImport("chatgpt", [createChat("deleted")]);
    const id = await findConversationId("deleted");
    await createRestClient(app.parley, anna).request("DELETE", `/conversations/${id}`);
    expect(await runImport("chatgpt", [createChat("deleted")])).toMatchObject({ imported: 1, skipped: 0 });
    expect(await findConversationId("deleted")).not.toBe(id);
  });

  test("creates separate copies for a different user", async () => {
    const ben = await app.parley.register(undefined, "Ben");
    expect(await runImport("chatgpt", [createChat("a")], ben)).toMatchObject({ imported: 1, skipped: 0 });
    expect((await listConversations(ben)).map(({ title }) => title)).toEqual(["Title of a"]);
  });
});

describe("a file", () => {
  const fileCases: [string, string, unknown, Partial<Import>][] = [
    ["that is an empty list", "chatgpt", [], { status: "done", conversations: 0 }],
    [
      "with the list of conversations in an object",
      "chatgpt",
      { version: 1, conversations: [createChat("wrapped")] },
      { status: "done", imported: 1 },
    ],
    ["that is one conversation", "chatgpt", createChat("single"), { status: "done", imported: 1 }],
    [
      "that is one Claude conversation",
      "claude",
      createClaudeConversation("single", ["x"]),
      { status: "done", imported: 1 },
    ],
    [
      "with a byte order mark and spaces",
      "chatgpt",
      `\ufeff \n[${JSON.stringify(createChat("bom"))}] \n`,
      { status: "done", imported: 1 },
    ],
    [
      "from Claude, imported as ChatGPT",
      "chatgpt",
      [createClaudeConversation("w", ["x"])],
      { status: "failed", imported: 0 },
    ],
    ["from ChatGPT, imported as Claude", "claude", [createChat("w2")], { status: "failed", imported: 0 }],
    ["that is not JSON", "chatgpt", "PK or not", { status: "failed" }],
    ["that is a number", "chatgpt", "7", { status: "failed" }],
    ["that is an object without conversations", "chatgpt", { data: { rows: [1, 2] } }, { status: "failed" }],
    [
      "that is truncated",
      "chatgpt",
      `[${JSON.stringify(createChat("whole"))},{"title":"Half`,
      { status: "failed", imported: 1 },
    ],
    [
      "with a syntax error",
      "chatgpt",
      `[${JSON.stringify(createChat("before"))},{"title":nul},${JSON.stringify(createChat("after"))}]`,
      { status: "failed", imported: 1 },
    ],
    [
      "with content after its end",
      "chatgpt",
      `[${JSON.stringify(createChat("end"))}] more`,
      { status: "failed", imported: 1 },
    ],
    [
      "with values that aren't conversations",
      "chatgpt",
      [1, null, "x", [], {}, createChat("good")],
      { status: "done", imported: 1, skipped: 5 },
    ],
    [
      "with a conversation without messages",
      "chatgpt",
      [{ title: "Empty", mapping: {}, id: "x" }, createChat("full")],
      { status: "done", imported: 1, skipped: 1 },
    ],
  ];
  for (const [description, source, file, expected] of fileCases)
    test(`${description} results in the status ${expected.status}`, async () => {
      const result = await runImport(source, file);
      expect(result).toMatchObject(expected);
      expect(result.error === null).toBe(expected.status === "done");
      expect(result.finished_at).not.toBeNull();
      expect(result.report).toHaveLength(result.skipped);
    });

  test("that can't be imported causes an error with the reason and position", async () => {
    expect((await runImport("chatgpt", [createClaudeConversation("w", ["x"])])).error).toEqual({
      code: "wrong_source",
      detail: "This is a Claude export. Import it with ?source=claude.",
    });
    const validStart = `[${JSON.stringify(createChat("position"))}`;
    expect((await runImport("chatgpt", `${validStart} {"title": "x"}]`)).error).toEqual({
      code: "malformed",
      detail: `The file isn't valid JSON: it is truncated or has an error near byte ${validStart.length + 1}.`,
    });
    const filler = JSON.stringify(createChat("far", { junk: "é".repeat(50_000) })).slice(0, -1);
    expect((await runImport("chatgpt", `[${filler},"x":truth}]`)).error?.detail).toContain(
      `near byte ${Buffer.byteLength(filler) + 5}.`,
    );
  });

  test("with an oversized part in one conversation is imported without that conversation", async () => {
    const largeChat = createChat("large", { title: "Large" }) as { mapping: Record<string, { message: unknown }> };
    const hugeChat = {
      ...largeChat,
      mapping: { ...largeChat.mapping, Big: { id: "Big", message: { junk: Array(5_000).fill("z".repeat(2_000)) } } },
    };
    const result = await runImport("chatgpt", [createChat("small 1"), hugeChat, createChat("small 2")]);
    expect(result).toMatchObject({ status: "done", imported: 2, skipped: 1 });
    expect(result.report).toEqual([{ title: "", reason: "Part of it is too large." }]);
  });
});

describe("the user's quota", () => {
  test("of conversations stops the import, but the conversations that were imported before that are kept", async () => {
    const cara = await app.parley.register(undefined, "Cara");
    const result = await runImport(
      "chatgpt",
      Array.from({ length: 45 }, (_, n) => createChat(`many-${n}`)),
      cara,
    );
    expect(result).toMatchObject({ status: "failed", imported: 40, error: { code: "quota_exceeded" } });
    expect(result.error?.detail).toContain("You can have at most 40 conversations");
    expect(await listConversations(cara)).toHaveLength(40);
  });

  test("of bytes stops the import, and also applies to imported answers", async () => {
    const dora = await app.parley.register(undefined, "Dora");
    const createLongChat = (id: string) =>
      createChatGptConversation(id, {
        q: { text: "q" },
        a: { text: "a".repeat(190_000) },
        b: { text: "b".repeat(190_000) },
        c: { text: "c".repeat(190_000) },
        d: { text: "d".repeat(190_000) },
        e: { text: "e".repeat(190_000) },
        f: { text: "f".repeat(190_000) },
      });
    const result = await runImport("chatgpt", [createLongChat("l1"), createLongChat("l2"), createLongChat("l3")], dora);
    expect(result).toMatchObject({ status: "failed", imported: 2, error: { code: "quota_exceeded" } });
    const usage = await createRestClient(app.parley, dora).get<{ quotas: { stored_bytes: { used: number } } }>(
      "/me/usage",
    );
    expect(usage.body.quotas.stored_bytes.used).toBe(2 * (1 + 6 * 190_000));
    const [{ id } = { id: "" }] = await listConversations(dora);
    const { rows } = await createRestClient(app.parley, dora).listAll<{ id: string; role: string }>(
      `/conversations/${id}/messages`,
      200,
    );
    const answer = rows.find(({ role }) => role === "assistant");
    await createRestClient(app.parley, dora).request("DELETE", `/conversations/${id}/messages/${answer?.id}`);
    const usageAfterDeletion = await createRestClient(app.parley, dora).get<{
      quotas: { stored_bytes: { used: number } };
    }>("/me/usage");
    expect(usageAfterDeletion.body.quotas.stored_bytes.used).toBe(2 * (1 + 6 * 190_000) - 190_000);
  });
});

describe("imports", () => {
  test("are listed only for their user, newest first, without their reports", async () => {
    const eva = await app.parley.register(undefined, "Eva");
    const otto = createRestClient(app.parley, await app.parley.register(undefined, "Otto"));
    const ids: string[] = [];
    for (let n = 0; n < 3; n += 1) ids.unshift((await runImport("chatgpt", [createChat(`eva-${n}`)], eva)).id);
    const { rows, pages } = await createRestClient(app.parley, eva).listAll<Import>("/imports", 2);
    expect(rows.map(({ id }) => id)).toEqual(ids);
    expect(pages).toEqual([2, 1]);
    expect(rows[0]).not.toHaveProperty("report");
    expect((await otto.get(`/imports/${ids[0]}`)).status).toBe(404);
    expect((await otto.get<{ data: [] }>("/imports")).body.data).toEqual([]);
    expect(await app.parley.database`select 1 from import_pieces`).toHaveLength(0);
  });

  test("fail if their user has been disabled", async () => {
    const finn = await app.parley.register(undefined, "Finn");
    await app.parley.database`update users set disabled_at = now() where id = ${finn.user.id}`;
    const [row] = await app.parley.database<{ id: string }[]>`
      insert into imports (id, user_id, source, status) values (gen_random_uuid(), ${finn.user.id}, 'chatgpt', 'queued')
      returning id`;
    const id = row?.id ?? "";
    await app.parley.database`update imports set status = 'uploading' where id = ${id}`;
    const bytes = Buffer.from(JSON.stringify([createChat("never")]));
    await insertPiece(app.parley.database, id, 1, bytes.length, await compressPiece(bytes));
    await app.parley.database`update imports set status = 'queued' where id = ${id}`;
    await app.parley.database`insert into jobs (queue, key) values ('imports', ${id})`;
    const outcome = await app.waitForValue(async () => {
      const [found] = await app.parley.database`
        select status, imported, error_code from imports where id = ${id} and finished_at is not null`;
      return found;
    });
    expect(outcome).toEqual({ status: "failed", imported: 0, error_code: "forbidden" });
  });

  test("are deleted with their user, including files that haven't been read", async () => {
    const gina = await app.parley.register(undefined, "Gina");
    await runImport("chatgpt", [createChat("gina"), 7], gina);
    const upload = await uploadFile(app.parley, gina, "chatgpt", JSON.stringify([createChat("gina 2")]));
    const { id } = (await upload.json()) as Import;
    const deletion = await createRestClient(app.parley, gina).request("DELETE", "/me", {
      current_password: "correct horse battery",
    });
    expect(deletion.status).toBe(204);
    await app.waitForValue(async () => {
      const rows = await app.parley.database`select 1 from users where id = ${gina.user.id}`;
      return rows.length === 0 ? true : undefined;
    });
    for (const table of ["imports", "import_sources"])
      expect(
        await app.parley.database`
        select 1 from ${app.parley.database(table)} where user_id = ${gina.user.id}`,
      ).toHaveLength(0);
    expect(await app.parley.database`select 1 from import_pieces where import_id = ${id}`).toHaveLength(0);
    expect(
      await app.parley.database`
      select 1 from import_notes n where not exists (select 1 from imports i where i.id = n.import_id)`,
    ).toHaveLength(0);
  });

  test("are part of their user's export, with the imported conversations", async () => {
    const hugo = await app.parley.register(undefined, "Hugo");
    const chat = createChatGptConversation("hugo", { Q: {}, A1: {}, A2: { role: "assistant" } });
    await runImport("chatgpt", [chat], hugo);
    const accountExport = (
      await createRestClient(app.parley, hugo).get<Record<string, Record<string, unknown>[]>>("/me/export")
    ).body;
    expect(accountExport.imports).toMatchObject([{ source: "chatgpt", status: "done", imported: 1 }]);
    expect(accountExport.messages?.map(({ content }) => content)).toEqual(["Q"]);
    expect(accountExport.supplied?.map(({ content }) => content)).toEqual(["A1", "A2"]);
    expect(accountExport.answers).toEqual([]);
  });

  test("fail if they make no progress, and are deleted after 30 days", async () => {
    const { database } = app.parley;
    const karl = await app.parley.register(undefined, "Karl");
    const lena = await app.parley.register(undefined, "Lena");
    const insertImport = async (userId: string, status: string, age: string) => {
      const [row] = await database<{ id: string }[]>`
        insert into imports (id, user_id, source, status, created_at, updated_at, finished_at)
        values (gen_random_uuid(), ${userId}, 'chatgpt', ${status}, now() - ${age}::interval, now() - ${age}::interval,
          case when ${status} = 'done' then now() - ${age}::interval end) returning id`;
      const id = row?.id ?? "";
      await database`insert into import_pieces (import_id, n, data) values (${id}, 1, 'x'), (${id}, 2, 'y')`;
      return id;
    };
    const staleUpload = await insertImport(karl.user.id, "uploading", "6 minutes");
    const staleQueuedImport = await insertImport(lena.user.id, "queued", "25 hours");
    const expiredImport = await insertImport(karl.user.id, "done", "31 days");
    const recentImport = await insertImport(karl.user.id, "done", "29 days");
    const job = createImportJob({ database, quotas: {} as never, bytesMax: 1, onStored() {} });
    await job.sweep(new AbortController().signal);
    await job.close();
    const ids = [staleUpload, staleQueuedImport, expiredImport, recentImport];
    const rows = await database`
      select id, status, error_code from imports where id = any (${ids}::uuid[]) order by created_at`;
    expect(rows).toEqual([
      { id: recentImport, status: "done", error_code: null },
      { id: staleQueuedImport, status: "failed", error_code: "expired" },
    ] as never);
    expect(await database`select 1 from import_pieces where import_id = any (${ids}::uuid[])`).toHaveLength(0);
  });

  test("run one at a time for each user, who receives 409 for a second upload", async () => {
    const ida = await app.parley.register(undefined, "Ida");
    const body = JSON.stringify(Array.from({ length: 30 }, (_, n) => createChat(`ida-${n}`)));
    const responses = await Promise.all([1, 2, 3].map(() => uploadFile(app.parley, ida, "chatgpt", body)));
    expect(responses.map(({ status }) => status).sort()).toEqual([202, 409, 409]);
    const acceptedResponse = responses.find(({ status }) => status === 202);
    const { id } = ((await acceptedResponse?.json()) ?? { id: "" }) as Import;
    expect(acceptedResponse?.headers.get("location")).toBe(`/api/v1/imports/${id}`);
    expect(await waitForImport(app.parley, ida, id)).toMatchObject({ status: "done", imported: 30 });
    expect(await listConversations(ida)).toHaveLength(30);
  });
});
