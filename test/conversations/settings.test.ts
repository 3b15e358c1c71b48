import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Conversation } from "../../src/protocol/conversation.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { openStream } from "../support/event-stream.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";

let parley: TestApp;
let owner: RestClient;
let viewer: RestClient;
let outsider: RestClient;
beforeAll(async () => {
  parley = await startApp();
  const accounts: Account[] = await Promise.all([1, 2, 3].map(() => parley.register()));
  [owner, viewer, outsider] = accounts.map((account) => createRestClient(parley, account)) as [
    RestClient,
    RestClient,
    RestClient,
  ];
});
afterAll(() => parley.stop());

async function createSharedConversation(input: Record<string, unknown> = {}): Promise<string> {
  const { id } = await createConversation(parley, owner.account, [], input);
  await owner.request("POST", `/conversations/${id}/members`, { user_id: viewer.id, role: "viewer" });
  return id;
}
const fetchSettings = async (user: RestClient, id: string) => {
  const { documents, tools, reasoning_effort } = (await user.get<Conversation>(`/conversations/${id}`)).body;
  return { documents, tools, reasoning_effort };
};
const defaultSettings = { documents: false, tools: false, reasoning_effort: null };

const customSettings = { documents: true, tools: ["wiki_search", "Search-2"], reasoning_effort: "high" };
const validSettings: Record<string, unknown>[] = [
  { documents: true },
  { documents: false },
  { tools: true },
  { tools: false },
  { tools: [] },
  { tools: ["a".repeat(64)] },
  { tools: Array.from({ length: 64 }, (_, n) => `tool_${n}`) },
  ...["none", "minimal", "low", "medium", "high", "xhigh"].map((reasoning_effort) => ({ reasoning_effort })),
  { reasoning_effort: null },
];
const invalidSettings: [string, unknown, string][] = [
  ["documents that are not a boolean", { documents: "true" }, "#/documents"],
  ["null documents", { documents: null }, "#/documents"],
  ["null tools", { tools: null }, "#/tools"],
  ["tools as a single string", { tools: "wiki_search" }, "#/tools"],
  ["tools as an object", { tools: { wiki_search: true } }, "#/tools"],
  ["too many tools", { tools: Array.from({ length: 65 }, (_, n) => `tool_${n}`) }, "#/tools"],
  ["a name that is too long", { tools: ["ok", "a".repeat(65)] }, "#/tools/1"],
  ["an empty name", { tools: [""] }, "#/tools/0"],
  ["a name with a space", { tools: ["wiki search"] }, "#/tools/0"],
  ["a name with a trailing line break", { tools: ["wiki_search\n"] }, "#/tools/0"],
  ["a name that is a number", { tools: [1] }, "#/tools/0"],
  ["the same name twice", { tools: ["a", "a"] }, "#/tools"],
  ["an unknown effort", { reasoning_effort: "max" }, "#/reasoning_effort"],
  ["an effort in uppercase", { reasoning_effort: "High" }, "#/reasoning_effort"],
  ["an effort that is a number", { reasoning_effort: 3 }, "#/reasoning_effort"],
];

describe("creating a conversation", () => {
  test.each(validSettings)(
    "stores the settings %j, and returns them in the conversation and the list",
    async (input) => {
      const { status, body } = await owner.request<Conversation>("POST", "/conversations", input);
      expect(status).toBe(201);
      expect(body).toMatchObject({ ...defaultSettings, ...input } as object);
      expect(await fetchSettings(owner, body.id)).toEqual({ ...defaultSettings, ...input } as never);
      const { rows } = await owner.listAll<Conversation>("/conversations", 200);
      expect(rows.find(({ id }) => id === body.id)).toMatchObject({ ...defaultSettings, ...input } as object);
    },
  );

  test.each(invalidSettings)("returns 422 with a pointer for %s", async (_name, input, pointer) => {
    const countConversations = async () => (await parley.database`select count(*)::int as n from conversations`)[0]?.n;
    const countBefore = await countConversations();
    const problem = await owner.requestProblem("POST", "/conversations", input);
    expect(problem).toMatchObject({ status: 422, code: "invalid" });
    expect(problem.errors?.map((error) => error.pointer)).toContain(pointer);
    expect(await countConversations()).toBe(countBefore);
  });

  test("ignores settings in its metadata", async () => {
    const metadata = { documents: true, tools: true, reasoning_effort: "high" };
    const { body } = await owner.request<Conversation>("POST", "/conversations", { metadata });
    expect(body).toMatchObject({ ...defaultSettings, metadata });
    const changedResponse = await owner.request<Conversation>("PATCH", `/conversations/${body.id}`, {
      metadata: { ...metadata, more: 1 },
    });
    expect(changedResponse.body).toMatchObject({ ...defaultSettings, metadata: { ...metadata, more: 1 } });
  });
});

describe("changing a conversation", () => {
  test.each(validSettings)("doesn't affect the other settings (%j)", async (input) => {
    const id = await createSharedConversation(customSettings);
    const { status, body } = await owner.request<Conversation>("PATCH", `/conversations/${id}`, input);
    expect(status).toBe(200);
    expect(body).toMatchObject({ ...customSettings, ...input } as object);
    expect(await fetchSettings(viewer, id)).toEqual({ ...customSettings, ...input } as never);
  });

  test.each(invalidSettings)("fails with 422 for %s", async (_name, input, pointer) => {
    const id = await createSharedConversation(customSettings);
    const conversationBefore = (await owner.get(`/conversations/${id}`)).body;
    const problem = await owner.requestProblem("PATCH", `/conversations/${id}`, input);
    expect(problem).toMatchObject({ status: 422, code: "invalid" });
    expect(problem.errors?.map((error) => error.pointer)).toContain(pointer);
    expect((await owner.get(`/conversations/${id}`)).body).toEqual(conversationBefore);
  });

  test("is only possible for an owner: viewers receive 403, and outsiders 404", async () => {
    const id = await createSharedConversation(customSettings);
    const change = { documents: false, tools: true, reasoning_effort: null };
    expect(await viewer.requestProblem("PATCH", `/conversations/${id}`, change)).toMatchObject({ status: 403 });
    expect(await outsider.requestProblem("PATCH", `/conversations/${id}`, change)).toMatchObject({ status: 404 });
    expect(await outsider.requestProblem("GET", `/conversations/${id}`)).toMatchObject({ status: 404 });
    expect(await fetchSettings(owner, id)).toEqual(customSettings as never);
  });

  test("is published only to members' sockets and streams", async () => {
    const id = await createSharedConversation();
    const socket = await openSocket(parley.url, { token: viewer.account.access_token });
    await socket.request({ type: "subscribe", conversation_id: id });
    const outsiderSocket = await openSocket(parley.url, { token: outsider.account.access_token });
    expect(await outsiderSocket.request({ type: "subscribe", conversation_id: id })).toMatchObject({
      code: "not_found",
    });
    const stream = await openStream(parley, `/conversations/${id}/events`, { token: viewer.account.access_token });

    await owner.request("PATCH", `/conversations/${id}`, customSettings);
    const isUpdate = ({ type }: { type: string }) => type === "conversation.updated";
    expect((await socket.waitFor(isUpdate)).data).toMatchObject(customSettings);
    expect((await stream.waitFor(isUpdate)).frame.data).toMatchObject(customSettings);
    const { body: events } = await viewer.get<{ data: { data: object }[] }>(`/conversations/${id}/events?after_seq=1`);
    expect(events.data.at(-1)?.data).toMatchObject(customSettings);
    await outsiderSocket.request({ type: "unsubscribe", conversation_id: id });
    expect(outsiderSocket.frames.filter(({ conversation_id }) => conversation_id === id)).toEqual([]);
    await Promise.all([socket.close(), outsiderSocket.close(), stream.close()]);
  });

  test.each([{ documents: true }, { tools: ["a"] }, { reasoning_effort: "low" }])(
    "changes the ETag (%j)",
    async (input) => {
      const id = await createSharedConversation();
      const path = `/conversations/${id}`;
      const etag = (await owner.get(path)).headers.get("etag") ?? "";
      expect((await owner.get(path, { "if-none-match": etag })).status).toBe(304);
      expect((await owner.request("PATCH", path, input, { "if-match": etag })).status).toBe(200);
      const changedResponse = await owner.get<Conversation>(path, { "if-none-match": etag });
      expect(changedResponse).toMatchObject({ status: 200, body: input });
      expect((await owner.request("PATCH", path, { documents: false }, { "if-match": etag })).status).toBe(412);
      expect(await fetchSettings(owner, id)).toEqual({ ...defaultSettings, ...input } as never);
    },
  );
});

test("settings are included in the exports of the conversation and of its members", async () => {
  const id = await createSharedConversation(customSettings);
  const { body } = await viewer.get<{ conversation: Conversation }>(`/conversations/${id}/export?format=json`);
  expect(body.conversation).toMatchObject(customSettings);
  const response = await parley.fetch("/api/v1/me/export", { token: owner.account.access_token });
  const { memberships } = (await response.json()) as { memberships: { conversation_id: string }[] };
  expect(memberships.find(({ conversation_id }) => conversation_id === id)).toMatchObject(customSettings);
});
