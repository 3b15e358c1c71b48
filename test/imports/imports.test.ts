import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createImportJob } from "../../src/modules/imports/job.ts";
import type { Import } from "../../src/modules/imports/model.ts";
import { compressPiece, insertPiece } from "../../src/modules/imports/pieces.ts";
import type { Conversation } from "../../src/protocol/conversation.ts";
import { type ModelApp, startModelApp } from "../generations/start-model-app.ts";
import type { Account } from "../support/app.ts";
import { createChatGpt, createClaude, importFile, sendFile, waitForImport } from "../support/imports.ts";
import { createRest } from "../support/rest.ts";

let asking: ModelApp;
let anna: Account;

beforeAll(async () => {
  asking = await startModelApp({ QUOTA_CONVERSATIONS: "40", QUOTA_STORED_BYTES: "3000000" });
  anna = await asking.parley.register("anna@example.com", "Anna");
});
afterAll(() => asking.stop());

const run = (source: string, file: unknown, account = anna) => importFile(asking.parley, account, source, file);
const chat = (id: string, other: object = {}) =>
  createChatGpt(id, { Question: {}, Answer: { model: "gpt-4o" } }, other);
const list = async (account = anna) =>
  (await createRest(asking.parley, account).all<Conversation>("/conversations", 200)).rows;
const idOf = async (sourceId: string) => {
  const [row] = await asking.parley.database<{ id: string }[]>`
    select conversation_id as id from import_sources where source_id = ${sourceId}`;
  return row?.id ?? "";
};

describe("an imported conversation", () => {
  test("can be continued with a model, which receives the imported current branch", async () => {
    const file = [
      createChatGpt("continued", {
        First: {},
        "First answer": {},
        "Left question": { parent: "First answer" },
        "Left answer": {},
        "Right question": { role: "user", parent: "First answer" },
        "Right answer": { role: "assistant" },
      }),
    ];
    await run("chatgpt", file);
    await asking.say(anna, await idOf("continued"), "And now?");
    expect(asking.readReceived()).toEqual([
      { role: "user", content: "First" },
      { role: "assistant", content: "First answer" },
      { role: "user", content: "Right question" },
      { role: "assistant", content: "Right answer" },
      { role: "user", content: "And now?" },
    ]);
    const conversation = (await list()).find(({ title }) => title === "Title of continued");
    expect(conversation).toMatchObject({ last_seq: 9, last_read_seq: 7, unread: 1 });
  });

  test("is listed by the time of its newest message, and its events date from the import", async () => {
    const { id } = await asking.createConversation(anna, [], { title: "Before" });
    await run("chatgpt", [chat("older")]);
    const titles = (await list()).map(({ title }) => title);
    expect(titles.indexOf("Title of older")).toBeGreaterThan(titles.indexOf("Before"));
    const imported = await idOf("older");
    const events = await createRest(asking.parley, anna).get<{ data: { type: string }[] }>(
      `/conversations/${imported}/events?after_seq=0`,
    );
    expect(events.body.data.map(({ type }) => type)).toEqual(["message.created", "message.created"]);
    expect(await asking.parley.database`select 1 from events where conversation_id = ${imported}`).toHaveLength(0);
    expect(id).not.toBe(imported);
  });

  test("has counters that match a recount", async () => {
    const [wrong] = await asking.parley.database<{ count: number }[]>`
      select count(*)::int from conversations c join import_sources s on s.conversation_id = c.id
      join members m on m.conversation_id = c.id
      cross join lateral (
        select count(*) as messages, max(x.seq) as last, min(x.seq) as first,
          sum(octet_length(x.content)) filter (where x.author_id is not null or x.supplied_by is not null) as bytes
        from messages x where x.conversation_id = c.id
      ) x
      where c.message_count <> x.messages or m.read_count > x.messages or m.written_bytes <> x.bytes
        or x.first <> 1 or x.last - x.first + 1 <> x.messages or x.last > c.last_seq`;
    expect(wrong?.count).toBe(0);
  });
});

describe("importing the same file again", () => {
  test("changes nothing, even in another order or with more content", async () => {
    const first = await run("chatgpt", [chat("a"), chat("b")]);
    expect(first).toMatchObject({ imported: 2, skipped: 0 });
    const before = await list();
    const again = await run("chatgpt", [chat("a"), chat("b")]);
    expect(again).toMatchObject({ status: "done", imported: 0, skipped: 2, conversations: 2, messages: 0 });
    expect(again.report).toEqual(
      ["a", "b"].map((id) => ({ title: `Title of ${id}`, reason: "It was already imported." })),
    );
    expect(await list()).toEqual(before);
    expect(await run("chatgpt", [chat("c"), chat("b"), chat("a")])).toMatchObject({ imported: 1, skipped: 2 });
    expect(await list()).toHaveLength(before.length + 1);
  });

  test("recognizes conversations without ids by their content, also within one file", async () => {
    const bare = { conversation_id: undefined };
    const file = [
      chat("d", { ...bare, title: "Bare" }),
      chat("d", { ...bare, title: "Bare" }),
      chat("e", { ...bare, title: "Other" }),
    ];
    expect(await run("chatgpt", file)).toMatchObject({ imported: 2, skipped: 1 });
    expect(await run("chatgpt", file)).toMatchObject({ imported: 0, skipped: 3 });
  });

  test("restores description was deleted", async () => {
    await run("chatgpt", [chat("deleted")]);
    const id = await idOf("deleted");
    await createRest(asking.parley, anna).request("DELETE", `/conversations/${id}`);
    expect(await run("chatgpt", [chat("deleted")])).toMatchObject({ imported: 1, skipped: 0 });
    expect(await idOf("deleted")).not.toBe(id);
  });

  test("creates separate copies for another user", async () => {
    const ben = await asking.parley.register(undefined, "Ben");
    expect(await run("chatgpt", [chat("a")], ben)).toMatchObject({ imported: 1, skipped: 0 });
    expect((await list(ben)).map(({ title }) => title)).toEqual(["Title of a"]);
  });
});

describe("a file", () => {
  const cases: [string, string, unknown, Partial<Import>][] = [
    ["that is an empty list", "chatgpt", [], { status: "done", conversations: 0 }],
    [
      "whose list is in an object",
      "chatgpt",
      { version: 1, conversations: [chat("wrapped")] },
      { status: "done", imported: 1 },
    ],
    ["that is one conversation", "chatgpt", chat("single"), { status: "done", imported: 1 }],
    ["that is one conversation of Claude", "claude", createClaude("single", ["x"]), { status: "done", imported: 1 }],
    [
      "with a byte order mark and spaces",
      "chatgpt",
      `\ufeff \n[${JSON.stringify(chat("bom"))}] \n`,
      { status: "done", imported: 1 },
    ],
    ["of Claude, declared as ChatGPT", "chatgpt", [createClaude("w", ["x"])], { status: "failed", imported: 0 }],
    ["of ChatGPT, declared as Claude", "claude", [chat("w2")], { status: "failed", imported: 0 }],
    ["that is not JSON", "chatgpt", "PK or not", { status: "failed" }],
    ["that is a number", "chatgpt", "7", { status: "failed" }],
    ["that is something else", "chatgpt", { data: { rows: [1, 2] } }, { status: "failed" }],
    [
      "that is cut off",
      "chatgpt",
      `[${JSON.stringify(chat("whole"))},{"title":"Half`,
      { status: "failed", imported: 1 },
    ],
    [
      "with a syntax error",
      "chatgpt",
      `[${JSON.stringify(chat("before"))},{"title":nul},${JSON.stringify(chat("after"))}]`,
      { status: "failed", imported: 1 },
    ],
    [
      "with content after its end",
      "chatgpt",
      `[${JSON.stringify(chat("end"))}] more`,
      { status: "failed", imported: 1 },
    ],
    [
      "of values that are not conversations",
      "chatgpt",
      [1, null, "x", [], {}, chat("good")],
      { status: "done", imported: 1, skipped: 5 },
    ],
    [
      "with a conversation without messages",
      "chatgpt",
      [{ title: "Empty", mapping: {}, id: "x" }, chat("full")],
      { status: "done", imported: 1, skipped: 1 },
    ],
  ];
  for (const [description, source, file, expected] of cases)
    test(`${description} ends ${expected.status}`, async () => {
      const done = await run(source, file);
      expect(done).toMatchObject(expected);
      expect(done.error === null).toBe(expected.status === "done");
      expect(done.finished_at).not.toBeNull();
      expect(done.report).toHaveLength(done.skipped);
    });

  test("that fails reports why, and where", async () => {
    expect((await run("chatgpt", [createClaude("w", ["x"])])).error).toEqual({
      code: "wrong_source",
      detail: "This is an export of Claude. Import it with ?source=claude.",
    });
    const start = `[${JSON.stringify(chat("position"))}`;
    expect((await run("chatgpt", `${start} {"title": "x"}]`)).error).toEqual({
      code: "malformed",
      detail: `The file isn't valid JSON: it is truncated or has an error near byte ${start.length + 1}.`,
    });
    const filler = JSON.stringify(chat("far", { junk: "é".repeat(50_000) })).slice(0, -1);
    expect((await run("chatgpt", `[${filler},"x":truth}]`)).error?.detail).toContain(
      `near byte ${Buffer.byteLength(filler) + 5}.`,
    );
  });

  test("with an oversized part skips only that conversation", async () => {
    const large = chat("large", { title: "Large" }) as { mapping: Record<string, { message: unknown }> };
    const huge = {
      ...large,
      mapping: { ...large.mapping, Big: { id: "Big", message: { junk: Array(5_000).fill("z".repeat(2_000)) } } },
    };
    const done = await run("chatgpt", [chat("small 1"), huge, chat("small 2")]);
    expect(done).toMatchObject({ status: "done", imported: 2, skipped: 1 });
    expect(done.report).toEqual([{ title: "", reason: "Part of it is too large." }]);
  });
});

describe("a user's quota", () => {
  test("of conversations ends the import, and keeps description fits", async () => {
    const cara = await asking.parley.register(undefined, "Cara");
    const done = await run(
      "chatgpt",
      Array.from({ length: 45 }, (_, n) => chat(`many-${n}`)),
      cara,
    );
    expect(done).toMatchObject({ status: "failed", imported: 40, error: { code: "quota_exceeded" } });
    expect(done.error?.detail).toContain("You can have at most 40 conversations");
    expect(await list(cara)).toHaveLength(40);
  });

  test("of bytes ends the import, and includes the imported answers", async () => {
    const dora = await asking.parley.register(undefined, "Dora");
    const long = (id: string) =>
      createChatGpt(id, {
        q: { text: "q" },
        a: { text: "a".repeat(190_000) },
        b: { text: "b".repeat(190_000) },
        c: { text: "c".repeat(190_000) },
        d: { text: "d".repeat(190_000) },
        e: { text: "e".repeat(190_000) },
        f: { text: "f".repeat(190_000) },
      });
    const done = await run("chatgpt", [long("l1"), long("l2"), long("l3")], dora);
    expect(done).toMatchObject({ status: "failed", imported: 2, error: { code: "quota_exceeded" } });
    const usage = await createRest(asking.parley, dora).get<{ quotas: { stored_bytes: { used: number } } }>(
      "/me/usage",
    );
    expect(usage.body.quotas.stored_bytes.used).toBe(2 * (1 + 6 * 190_000));
    const [{ id } = { id: "" }] = await list(dora);
    const { rows } = await createRest(asking.parley, dora).all<{ id: string; role: string }>(
      `/conversations/${id}/messages`,
      200,
    );
    const answer = rows.find(({ role }) => role === "assistant");
    await createRest(asking.parley, dora).request("DELETE", `/conversations/${id}/messages/${answer?.id}`);
    const after = await createRest(asking.parley, dora).get<{ quotas: { stored_bytes: { used: number } } }>(
      "/me/usage",
    );
    expect(after.body.quotas.stored_bytes.used).toBe(2 * (1 + 6 * 190_000) - 190_000);
  });
});

describe("imports", () => {
  test("are visible only to their user, newest first, without reports in the list", async () => {
    const eva = await asking.parley.register(undefined, "Eva");
    const otto = createRest(asking.parley, await asking.parley.register(undefined, "Otto"));
    const ids: string[] = [];
    for (let n = 0; n < 3; n += 1) ids.unshift((await run("chatgpt", [chat(`eva-${n}`)], eva)).id);
    const { rows, pages } = await createRest(asking.parley, eva).all<Import>("/imports", 2);
    expect(rows.map(({ id }) => id)).toEqual(ids);
    expect(pages).toEqual([2, 1]);
    expect(rows[0]).not.toHaveProperty("report");
    expect((await otto.get(`/imports/${ids[0]}`)).status).toBe(404);
    expect((await otto.get<{ data: [] }>("/imports")).body.data).toEqual([]);
    expect(await asking.parley.database`select 1 from import_pieces`).toHaveLength(0);
  });

  test("of a user who is disabled meanwhile stop", async () => {
    const finn = await asking.parley.register(undefined, "Finn");
    await asking.parley.database`update users set disabled_at = now() where id = ${finn.user.id}`;
    const [row] = await asking.parley.database<{ id: string }[]>`
      insert into imports (id, user_id, source, status) values (gen_random_uuid(), ${finn.user.id}, 'chatgpt', 'queued')
      returning id`;
    const id = row?.id ?? "";
    await asking.parley.database`update imports set status = 'uploading' where id = ${id}`;
    const bytes = Buffer.from(JSON.stringify([chat("never")]));
    await insertPiece(asking.parley.database, id, 1, bytes.length, await compressPiece(bytes));
    await asking.parley.database`update imports set status = 'queued' where id = ${id}`;
    await asking.parley.database`insert into jobs (queue, key) values ('imports', ${id})`;
    const ended = await asking.waitUntil(async () => {
      const [found] = await asking.parley.database`
        select status, imported, error_code from imports where id = ${id} and finished_at is not null`;
      return found;
    });
    expect(ended).toEqual({ status: "failed", imported: 0, error_code: "forbidden" });
  });

  test("are deleted with their user, including files that have not been read", async () => {
    const gina = await asking.parley.register(undefined, "Gina");
    await run("chatgpt", [chat("gina"), 7], gina);
    const open = await sendFile(asking.parley, gina, "chatgpt", JSON.stringify([chat("gina 2")]));
    const { id } = (await open.json()) as Import;
    const removed = await createRest(asking.parley, gina).request("DELETE", "/me", {
      current_password: "correct horse battery",
    });
    expect(removed.status).toBe(204);
    await asking.waitUntil(async () => {
      const rows = await asking.parley.database`select 1 from users where id = ${gina.user.id}`;
      return rows.length === 0 ? true : undefined;
    });
    for (const table of ["imports", "import_sources"])
      expect(
        await asking.parley.database`
        select 1 from ${asking.parley.database(table)} where user_id = ${gina.user.id}`,
      ).toHaveLength(0);
    expect(await asking.parley.database`select 1 from import_pieces where import_id = ${id}`).toHaveLength(0);
    expect(
      await asking.parley.database`
      select 1 from import_notes n where not exists (select 1 from imports i where i.id = n.import_id)`,
    ).toHaveLength(0);
  });

  test("are part of their user's export, with the imported conversations", async () => {
    const hugo = await asking.parley.register(undefined, "Hugo");
    const chain = createChatGpt("hugo", { Q: {}, A1: {}, A2: { role: "assistant" } });
    await run("chatgpt", [chain], hugo);
    const exported = (
      await createRest(asking.parley, hugo).get<Record<string, Record<string, unknown>[]>>("/me/export")
    ).body;
    expect(exported.imports).toMatchObject([{ source: "chatgpt", status: "done", imported: 1 }]);
    expect(exported.messages?.map(({ content }) => content)).toEqual(["Q"]);
    expect(exported.supplied?.map(({ content }) => content)).toEqual(["A1", "A2"]);
    expect(exported.answers).toEqual([]);
  });

  test("that are stuck for too long fail, and leave nothing", async () => {
    const { database } = asking.parley;
    const karl = await asking.parley.register(undefined, "Karl");
    const lena = await asking.parley.register(undefined, "Lena");
    const insert = async (userId: string, status: string, age: string) => {
      const [row] = await database<{ id: string }[]>`
        insert into imports (id, user_id, source, status, created_at, updated_at, finished_at)
        values (gen_random_uuid(), ${userId}, 'chatgpt', ${status}, now() - ${age}::interval, now() - ${age}::interval,
          case when ${status} = 'done' then now() - ${age}::interval end) returning id`;
      const id = row?.id ?? "";
      await database`insert into import_pieces (import_id, n, data) values (${id}, 1, 'x'), (${id}, 2, 'y')`;
      return id;
    };
    const broken = await insert(karl.user.id, "uploading", "6 minutes");
    const late = await insert(lena.user.id, "queued", "25 hours");
    const old = await insert(karl.user.id, "done", "31 days");
    const kept = await insert(karl.user.id, "done", "29 days");
    const job = createImportJob({ database, quotas: {} as never, bytesMax: 1, onStored() {} });
    await job.sweep(new AbortController().signal);
    await job.close();
    const ids = [broken, late, old, kept];
    const rows = await database`
      select id, status, error_code from imports where id = any (${ids}::uuid[]) order by created_at`;
    expect(rows).toEqual([
      { id: kept, status: "done", error_code: null },
      { id: late, status: "failed", error_code: "expired" },
    ] as never);
    expect(await database`select 1 from import_pieces where import_id = any (${ids}::uuid[])`).toHaveLength(0);
  });

  test("run one at a time: a second one is a conflict", async () => {
    const ida = await asking.parley.register(undefined, "Ida");
    const body = JSON.stringify(Array.from({ length: 30 }, (_, n) => chat(`ida-${n}`)));
    const answers = await Promise.all([1, 2, 3].map(() => sendFile(asking.parley, ida, "chatgpt", body)));
    expect(answers.map(({ status }) => status).sort()).toEqual([202, 409, 409]);
    const accepted = answers.find(({ status }) => status === 202);
    const { id } = ((await accepted?.json()) ?? { id: "" }) as Import;
    expect(accepted?.headers.get("location")).toBe(`/api/v1/imports/${id}`);
    expect(await waitForImport(asking.parley, ida, id)).toMatchObject({ status: "done", imported: 30 });
    expect(await list(ida)).toHaveLength(30);
  });
});
