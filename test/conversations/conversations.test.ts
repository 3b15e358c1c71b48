import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import { METADATA_BYTES_MAX, TITLE_CHARS_MAX } from "../../src/modules/conversations/model.ts";
import { getLeaseKey } from "../../src/modules/generations/pieces.ts";
import { storePieces } from "../../src/modules/generations/queries.ts";
import type { Conversation } from "../../src/protocol/conversation.ts";
import { insertAnswer } from "../support/answer.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { countLockWaits } from "../support/postgres-locks.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";

let parley: TestApp;
let annaAccount: Account;
let benAccount: Account;
let anna: RestClient;
let ben: RestClient;

beforeAll(async () => {
  parley = await startApp();
  [annaAccount, benAccount] = await Promise.all([parley.register(), parley.register()]);
  anna = createRestClient(parley, annaAccount);
  ben = createRestClient(parley, benAccount);
});
afterAll(() => parley.stop());

const createMetadata = (bytes: number) => ({ x: "ä".repeat((bytes - 8) / 2) });

describe("creating a conversation", () => {
  test("sets default values", async () => {
    const { status, headers, body } = await anna.request<Conversation>("POST", "/conversations", {});
    expect(status).toBe(201);
    expect(headers.get("location")).toBe(`/api/v1/conversations/${body.id}`);
    expect(body).toEqual({
      id: expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-7/),
      title: "",
      kind: "direct",
      model: null,
      prompt_id: null,
      reply_mode: "always",
      documents: false,
      tools: false,
      reasoning_effort: null,
      metadata: {},
      last_seq: 0,
      role: "owner",
      last_read_seq: 0,
      unread: 0,
      created_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      updated_at: body.created_at,
    });
    expect((await anna.get<Conversation>(`/conversations/${body.id}`)).body).toEqual(body);
  });

  test("stores all fields", async () => {
    const input = {
      title: "Weather ☔",
      kind: "group",
      model: "offline/documents",
      reply_mode: "mention",
      metadata: { tags: ["a", { deep: null }], n: 1.5, "": true, 'quote"': "ä" },
    };
    const { body } = await anna.request<Conversation>("POST", "/conversations", input);
    expect(body).toMatchObject(input);
    expect((await anna.get<Conversation>(`/conversations/${body.id}`)).body).toEqual(body);
  });

  test("sets a group's reply mode to `mention` by default", async () => {
    const { body } = await anna.request<Conversation>("POST", "/conversations", { kind: "group" });
    expect(body.reply_mode).toBe("mention");
  });

  test("accepts titles and metadata up to their limits", async () => {
    const input = { title: "x".repeat(TITLE_CHARS_MAX), metadata: createMetadata(METADATA_BYTES_MAX) };
    const { status, body } = await anna.request<Conversation>("POST", "/conversations", input);
    expect(status).toBe(201);
    expect(body.metadata).toEqual(input.metadata);
  });

  const invalidInputs: [string, unknown, string][] = [
    ["a title that is too long", { title: "x".repeat(TITLE_CHARS_MAX + 1) }, "#/title"],
    ["a title that is not a string", { title: 1 }, "#/title"],
    ["a NUL in the title", { title: "a\0b" }, "#/title"],
    ["an unknown kind", { kind: "public" }, "#/kind"],
    ["an unknown reply mode", { reply_mode: "sometimes" }, "#/reply_mode"],
    ["metadata that is too large", { metadata: createMetadata(METADATA_BYTES_MAX + 2) }, "#/metadata"],
    ["metadata that is an array", { metadata: [] }, "#/metadata"],
    ["metadata that is null", { metadata: null }, "#/metadata"],
    ["a lone surrogate deep in the metadata", { metadata: { a: [{ "b/c": "\ud800" }] } }, "#/metadata/a/0/b~1c"],
    ["an unknown field", { titel: "x" }, "#/titel"],
    ["a read-only field", { last_seq: 7 }, "#/last_seq"],
    ["an empty model", { model: "" }, "#/model"],
  ];
  test.each(invalidInputs)("returns 422 with a pointer for %s", async (_name, input, pointer) => {
    const countConversations = async () => (await parley.database`select count(*)::int as n from conversations`)[0]?.n;
    const countBefore = await countConversations();
    const problem = await anna.requestProblem("POST", "/conversations", input);
    expect(problem).toMatchObject({ status: 422, code: "invalid" });
    expect(problem.errors?.map((error) => error.pointer)).toContain(pointer);
    expect(await countConversations()).toBe(countBefore);
  });

  test("returns 422 for an unconfigured model", async () => {
    expect(await anna.requestProblem("POST", "/conversations", { model: "openai/none" })).toMatchObject({
      status: 422,
      code: "unknown_model",
    });
  });

  test("requires authentication", async () => {
    const response = await parley.fetch("/api/v1/conversations", { json: {} });
    expect(response.status).toBe(401);
  });
});

describe("reading a conversation", () => {
  test("returns 304 until something changes", async () => {
    const { id } = await createConversation(parley, annaAccount, [benAccount]);
    const path = `/conversations/${id}`;
    const firstResponse = await anna.get<Conversation>(path);
    const etag = firstResponse.headers.get("etag") ?? "";
    expect(etag).toMatch(/^"[\w-]+"$/);
    for (const header of [etag, `W/${etag}`, `"other", ${etag}`, "*"]) {
      const repeatedResponse = await anna.get(path, { "if-none-match": header });
      expect(repeatedResponse).toMatchObject({ status: 304, body: null });
      expect(repeatedResponse.headers.get("etag")).toBe(etag);
    }
    expect((await ben.get(path, { "if-none-match": etag })).status).toBe(200);
    await ben.request("POST", `${path}/messages`, { content: "new", reply: false });
    const changedResponse = await anna.get<Conversation>(path, { "if-none-match": etag });
    expect(changedResponse.status).toBe(200);
    expect(changedResponse.body).toMatchObject({ last_seq: 2, unread: 1 });
    expect(changedResponse.headers.get("etag")).not.toBe(etag);
  });

  test("accepts an id in uppercase", async () => {
    const { id } = await createConversation(parley, annaAccount);
    expect((await anna.get<Conversation>(`/conversations/${id.toUpperCase()}`)).body.id).toBe(id);
  });

  test.each(["nope", "1", `${createId()}0`, "%00", "..%2fusers"])("returns 422 for the invalid id %p", async (id) => {
    for (const [method, input] of [["GET"], ["PATCH", {}], ["DELETE"]] as const) {
      const problem = await anna.requestProblem(method, `/conversations/${id}`, input);
      expect(problem).toMatchObject({ status: 422, code: "invalid", errors: [{ pointer: "#/params/id" }] });
    }
  });

  test("returns 404 for an unknown id", async () => {
    expect(await anna.requestProblem("GET", `/conversations/${createId()}`)).toMatchObject({
      status: 404,
      code: "not_found",
    });
  });
});

describe("changing a conversation", () => {
  test("stores and returns the change, and publishes an event", async () => {
    const { id } = await createConversation(parley, annaAccount, [benAccount], { metadata: { old: 1 } });
    const socket = await openSocket(parley.url, { token: benAccount.access_token });
    await socket.request({ type: "subscribe", conversation_id: id });
    const change = { title: "New", model: "offline/documents", reply_mode: "mention", metadata: { new: 2 } };
    const { status, body } = await anna.request<Conversation>("PATCH", `/conversations/${id}`, change);
    expect(status).toBe(200);
    expect(body).toMatchObject({ ...change, last_seq: 2, role: "owner" });
    expect(body.metadata).toEqual({ new: 2 });
    const push = await socket.waitFor((frame) => frame.type === "conversation.updated");
    const { role: _r, last_read_seq: _l, unread: _u, ...sharedFields } = body;
    expect(push).toMatchObject({ conversation_id: id, seq: 2, data: sharedFields });
    expect(Object.keys(push.data ?? {}).sort()).toEqual(Object.keys(sharedFields).sort());
    const { body: events } = await ben.get<{ data: unknown[] }>(`/conversations/${id}/events?after_seq=1`);
    expect(events.data).toEqual([push]);
    await socket.close();
  });

  test("affects only the given fields, and can remove a model", async () => {
    const { id } = await createConversation(parley, annaAccount, [], { title: "T", model: "offline/documents" });
    await anna.request("PATCH", `/conversations/${id}`, { title: "" });
    const { body } = await anna.request<Conversation>("PATCH", `/conversations/${id}`, { model: null });
    expect(body).toMatchObject({ title: "", model: null, reply_mode: "never", last_seq: 2 });
  });

  test("changes nothing and creates no event if no fields are given", async () => {
    const { id } = await createConversation(parley, annaAccount);
    const conversationBefore = (await anna.get(`/conversations/${id}`)).body;
    expect((await anna.request("PATCH", `/conversations/${id}`, {})).body).toEqual(conversationBefore);
  });

  const invalidChanges: [string, unknown, string][] = [
    ["a title that is too long", { title: "x".repeat(TITLE_CHARS_MAX + 1) }, "invalid"],
    ["a different kind", { kind: "group" }, "invalid"],
    ["metadata that is too large", { metadata: createMetadata(METADATA_BYTES_MAX + 2) }, "invalid"],
    ["an unconfigured model", { model: "openai/none" }, "unknown_model"],
    ["a null title", { title: null }, "invalid"],
    ["a list", [], "invalid"],
  ];
  test.each(invalidChanges)("fails with 422 for %s", async (_name, input, code) => {
    const { id } = await createConversation(parley, annaAccount);
    const conversationBefore = (await anna.get(`/conversations/${id}`)).body;
    expect(await anna.requestProblem("PATCH", `/conversations/${id}`, input)).toMatchObject({ status: 422, code });
    expect((await anna.get(`/conversations/${id}`)).body).toEqual(conversationBefore);
  });
});

describe("deleting a conversation", () => {
  test("removes everything, notifies subscribers, and publishes nothing more", async () => {
    const { id } = await createConversation(parley, annaAccount, [benAccount]);
    const otherConversation = await createConversation(parley, annaAccount, [benAccount]);
    const path = `/conversations/${id}`;
    const sentMessage = await ben.request<{ message: { id: string } }>("POST", `${path}/messages`, {
      content: "hi",
      reply: true,
    });
    await anna.request("PATCH", path, { title: "short life" });
    const sockets = await Promise.all(
      [annaAccount, benAccount].map((account) => openSocket(parley.url, { token: account.access_token })),
    );
    for (const socket of sockets) {
      await socket.request({ type: "subscribe", conversation_id: id });
      await socket.request({ type: "subscribe", conversation_id: otherConversation.id });
    }
    const { last_seq } = (await anna.get<Conversation>(path)).body;
    expect(await anna.request("DELETE", path)).toMatchObject({ status: 204, body: null });

    for (const socket of sockets) {
      const push = await socket.waitFor((frame) => frame.type === "conversation.deleted");
      expect(push).toMatchObject({ conversation_id: id, data: { id } });
      expect(push.seq).toBeGreaterThan(last_seq);
      expect(await socket.request({ type: "subscribe", conversation_id: id })).toMatchObject({ code: "not_found" });
      expect(await socket.request({ type: "subscribe", conversation_id: id, after_seq: 0 })).toMatchObject({
        code: "not_found",
      });
    }
    await ben.request("POST", `/conversations/${otherConversation.id}/messages`, {
      content: "still here",
      reply: false,
    });
    for (const socket of sockets) {
      const laterFrame = await socket.waitFor((frame) => frame.data?.content === "still here");
      const deletionIndex = socket.frames.findIndex((frame) => frame.type === "conversation.deleted");
      const laterFrames = socket.frames.slice(deletionIndex + 1, socket.frames.indexOf(laterFrame));
      expect(laterFrames.filter((frame) => frame.conversation_id === id)).toEqual([]);
      await socket.close();
    }

    for (const [method, endpoint, input] of [
      ["GET", path],
      ["DELETE", path],
      ["GET", `${path}/messages`],
      ["GET", `${path}/messages/${sentMessage.body.message.id}`],
      ["GET", `${path}/events`],
      ["POST", `${path}/messages`, { content: "late" }],
    ] as const)
      expect(await ben.requestProblem(method, endpoint, input)).toMatchObject({ status: 404, code: "not_found" });
    // A job erases the conversation's rows.
    const countRows = async () => {
      let rows = 0;
      for (const table of ["members", "messages", "events", "generations", "generation_pieces"])
        rows += (await parley.database`select 1 from ${parley.database(table)} where conversation_id = ${id}`).length;
      return rows + (await parley.database`select 1 from conversations where id = ${id}`).length;
    };
    const deadlineMs = performance.now() + 15_000;
    while ((await countRows()) > 0 && performance.now() < deadlineMs) await Bun.sleep(50);
    expect(await countRows()).toBe(0);
  });

  /** Regression test: the deletion locked messages before their generations, and deadlocked with a checkpoint. */
  test("doesn't block a checkpoint of an answer in progress", async () => {
    const { id } = await createConversation(parley, annaAccount);
    const generation = await insertAnswer(parley.database, { conversationId: id });
    const piece = { ...getLeaseKey(generation), attempt: 1, n: 1, text: "so far" };
    const finishDeletion = await parley.database.begin(async (sql) => {
      expect(await storePieces(sql, [piece])).toEqual(new Set([generation.id]));
      const deletionRequest = anna.request("DELETE", `/conversations/${id}`);
      while ((await countLockWaits(parley)) === 0) await Bun.sleep(5);
      expect(await storePieces(sql, [{ ...piece, n: 2 }])).toEqual(new Set([generation.id]));
      return () => deletionRequest;
    });
    expect((await finishDeletion()).status).toBe(204);
    expect(await storePieces(parley.database, [{ ...piece, n: 3 }])).toEqual(new Set());
    while ((await parley.database`select 1 from generation_pieces where conversation_id = ${id}`).length > 0)
      await Bun.sleep(50);
  });
});
