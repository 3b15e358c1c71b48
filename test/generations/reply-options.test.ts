import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { Message } from "../../src/protocol/message.ts";
import { REPLY_SCHEMA_BYTES_MAX } from "../../src/protocol/reply-format.ts";
import type { Account } from "../support/app.ts";
import { openStream } from "../support/event-stream.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";
import { type ModelApp, startModelApp } from "./start-model-app.ts";

let app: ModelApp;
let anna: Account;
let owner: RestClient;
let viewer: RestClient;
let outsider: RestClient;
beforeAll(async () => {
  app = await startModelApp();
  const accounts = await Promise.all([1, 2, 3].map(() => app.parley.register()));
  [owner, viewer, outsider] = accounts.map((account) => createRestClient(app.parley, account)) as [
    RestClient,
    RestClient,
    RestClient,
  ];
  anna = owner.account;
});
beforeEach(() => app.provider.reset());
afterAll(() => app.stop());

const schema = { type: "object", properties: { zebra: { type: "string" }, apple: { type: "integer" } } };
const createConversation = async (input: Record<string, unknown> = {}): Promise<string> =>
  (await app.createConversation(anna, [], { title: "Settings", ...input })).id;

/** Lists the reasoning efforts in the requests to the provider. */
const listEfforts = () => app.provider.requests.map(({ body }) => body.reasoning_effort ?? null);
const findGeneration = async (messageId: string) => {
  const [row] = await app.parley.database<{ reasoning_effort: string | null; reply_format: unknown }[]>`
    select reasoning_effort, reply_format from generations where message_id = ${messageId}`;
  return row;
};
const countMessages = async () => (await app.parley.database`select count(*)::int as n from messages`)[0]?.n;
const isCompleted = ({ type }: { type: string }) => type === "message.completed";

/** Functions that send a message over a transport, and wait for its answer. */
const transports: Record<string, (id: string, options: object) => Promise<void>> = {
  async REST(id, options) {
    await app.sendMessage(anna, id, "Hello.", { ...options });
  },
  async SSE(id, options) {
    const path = `/conversations/${id}/messages`;
    const json = { content: "Hello.", reply: true, ...options };
    const stream = await openStream(app.parley, path, { token: anna.access_token, json });
    await stream.waitFor(isCompleted);
    await stream.close();
  },
  async WebSocket(id, options) {
    const socket = await openSocket(app.parley.url, { token: anna.access_token });
    await socket.request({ type: "subscribe", conversation_id: id });
    const frame = { type: "message.send", conversation_id: id, client_message_id: "c", content: "Hello.", reply: true };
    expect(await socket.request({ ...frame, ...options })).toMatchObject({ type: "ack", duplicate: false });
    await socket.waitFor(isCompleted);
    await socket.close();
  },
};

describe.each(Object.keys(transports))("over %s,", (transportName) => {
  const sendMessage = (id: string, options: object) => transports[transportName]?.(id, options);

  test.each<[string, string | null, object, string | null]>([
    ["the conversation's effort applies", "low", {}, "low"],
    ["the message's effort takes precedence", "low", { reasoning_effort: "high" }, "high"],
    ["the message's effort applies if the conversation has none", null, { reasoning_effort: "minimal" }, "minimal"],
    [
      "the conversation's effort applies if the message's effort is null",
      "medium",
      { reasoning_effort: null },
      "medium",
    ],
    ["no effort is sent if none is set", null, {}, null],
  ])("%s", async (_name, conversationEffort, options, effort) => {
    const id = await createConversation({ reasoning_effort: conversationEffort });
    await sendMessage(id, options);
    expect(listEfforts()).toEqual([effort]);
    const [row] = await app.parley.database`select reasoning_effort from generations where conversation_id = ${id}`;
    expect(row).toEqual({ reasoning_effort: effort });
  });

  test("the format's properties are stored in the order in which they were sent", async () => {
    const id = await createConversation();
    await sendMessage(id, { reply_format: { name: "fruit", schema } });
    const [row] = await app.parley.database<{ text: string }[]>`
      select reply_format::text as text from generations where conversation_id = ${id}`;
    expect(row?.text).toBe(JSON.stringify({ name: "fruit", schema }));
  });

  const invalidOptions: [string, object, string][] = [
    ["an unknown effort", { reasoning_effort: "max" }, "#/reasoning_effort"],
    ["an effort that is a number", { reasoning_effort: 1 }, "#/reasoning_effort"],
    ["a format without a schema", { reply_format: { name: "x" } }, "#/reply_format/schema"],
    ["a format that is a string", { reply_format: "json" }, "#/reply_format"],
    ["a schema that is an array", { reply_format: { schema: [] } }, "#/reply_format/schema"],
    ["a schema that is true", { reply_format: { schema: true } }, "#/reply_format/schema"],
    ["a name with a space", { reply_format: { name: "a b", schema } }, "#/reply_format/name"],
    ["a name that is too long", { reply_format: { name: "a".repeat(65), schema } }, "#/reply_format/name"],
    ["an unknown field", { reply_format: { schema, strict: true } }, "#/reply_format/strict"],
    [
      "a schema that is too large",
      { reply_format: { schema: { x: "a".repeat(REPLY_SCHEMA_BYTES_MAX - 7) } } },
      "#/reply_format/schema",
    ],
  ];
  test.each(invalidOptions)(
    "%s is rejected with a pointer to it, and nothing is stored",
    async (_name, options, pointer) => {
      const id = await createConversation();
      const previousCount = await countMessages();
      if (transportName === "WebSocket") {
        const socket = await openSocket(app.parley.url, { token: anna.access_token });
        const frame = {
          type: "message.send",
          conversation_id: id,
          client_message_id: "c",
          content: "Hello.",
          reply: true,
        };
        const error = await socket.request({ ...frame, ...options });
        expect(error).toMatchObject({ type: "error", code: "invalid", temporary: false });
        expect(JSON.stringify(error.errors)).toContain(`"${pointer}"`);
        await socket.close();
      } else {
        const headers: Record<string, string> = transportName === "SSE" ? { accept: "text/event-stream" } : {};
        const input = { content: "Hello.", reply: true, ...options };
        const { status, body } = await owner.request<{ errors: { pointer: string }[] }>(
          "POST",
          `/conversations/${id}/messages`,
          input,
          headers,
        );
        expect(status).toBe(422);
        expect(body.errors.map((error) => error.pointer)).toContain(pointer);
      }
      expect(await countMessages()).toBe(previousCount);
      expect(app.provider.requests).toEqual([]);
    },
  );
});

test("a schema can have the maximum size, but can't be nested deeper than other JSON", async () => {
  const id = await createConversation();
  const largeSchema = { x: "a".repeat(REPLY_SCHEMA_BYTES_MAX - 8) };
  expect(Buffer.byteLength(JSON.stringify(largeSchema))).toBe(REPLY_SCHEMA_BYTES_MAX);
  const { message } = await app.sendMessage(anna, id, "Hello.", {
    reply: false,
    reply_format: { schema: largeSchema },
  });
  expect(message.id).toBeString();
  let nestedSchema: Record<string, unknown> = {};
  for (let level = 0; level < 40; level += 1) nestedSchema = { properties: { x: nestedSchema } };
  const input = { content: "Hello.", reply_format: { schema: nestedSchema } };
  expect(await owner.requestProblem("POST", `/conversations/${id}/messages`, input)).toMatchObject({ status: 400 });
});

test("a viewer receives 403, an outsider receives 404, and no model is called", async () => {
  const id = await createConversation({ kind: "group" });
  await owner.request("POST", `/conversations/${id}/members`, { user_id: viewer.id, role: "viewer" });
  const input = { content: "Hello.", reply: true, reasoning_effort: "high", reply_format: { schema } };
  const previousCount = await countMessages();
  for (const [user, status, code] of [
    [viewer, 403, "forbidden"],
    [outsider, 404, "not_found"],
  ] as const) {
    const path = `/conversations/${id}/messages`;
    expect(await user.requestProblem("POST", path, input)).toMatchObject({ status, code });
    expect(await user.request("POST", path, input, { accept: "text/event-stream" })).toMatchObject({ status });
    const socket = await openSocket(app.parley.url, { token: user.account.access_token });
    const frame = { type: "message.send", conversation_id: id, client_message_id: "c", ...input };
    expect(await socket.request(frame)).toMatchObject({ type: "error", code });
    await socket.close();
  }
  expect(await countMessages()).toBe(previousCount);
  expect(app.provider.requests).toEqual([]);
});

test("messages stored in one batch keep their own options", async () => {
  const effortValues = ["none", "minimal", "low", "medium", "high", "xhigh", null];
  const ids = await Promise.all(
    Array.from({ length: 21 }, (_, n) => createConversation({ model: n % 2 ? "compatible/one" : null })),
  );
  const socket = await openSocket(app.parley.url, { token: anna.access_token });
  for (const id of ids) await socket.request({ type: "subscribe", conversation_id: id });
  await Promise.all(
    ids.map((conversation_id, n) => {
      const options = {
        reasoning_effort: effortValues[n % 7],
        ...(n % 3 && { reply_format: { name: `f${n}`, schema } }),
      };
      const message = { conversation_id, client_message_id: `c${n}`, content: `Number ${n}.`, reply: true };
      return socket.request({ type: "message.send", ...message, ...options });
    }),
  );
  await app.waitForValue(() => (socket.frames.filter(isCompleted).length === ids.length ? true : undefined), 20_000);
  const receivedEfforts = app.provider.requests.map(({ body }) => {
    const [message] = body.messages as { content: string }[];
    return `${message?.content} ${body.reasoning_effort ?? null}`;
  });
  // The requests are compared as sets, because a request is sent twice if its answer doesn't match the format.
  expect(new Set(receivedEfforts)).toEqual(new Set(ids.map((_, n) => `Number ${n}. ${effortValues[n % 7]}`)));
  const rows = await app.parley.database<{ id: string; reasoning_effort: string; name: string | null }[]>`
    select conversation_id as id, reasoning_effort, reply_format ->> 'name' as name from generations
    where conversation_id = any (${ids}::uuid[])`;
  const storedOptions = new Map(rows.map(({ id, reasoning_effort, name }) => [id, `${reasoning_effort} ${name}`]));
  expect(ids.map((id) => storedOptions.get(id))).toEqual(
    ids.map((_, n) => `${effortValues[n % 7]} ${n % 3 ? `f${n}` : null}`),
  );
  await socket.close();
}, 30_000);

test("a message that is resent with different options keeps its first options", async () => {
  const id = await createConversation();
  const originalResult = await app.sendMessage(anna, id, "Hello.", {
    client_message_id: "one",
    reasoning_effort: "low",
  });
  const resentResult = await app.sendMessage(anna, id, "Hello.", {
    client_message_id: "one",
    reasoning_effort: "high",
    reply_format: { schema },
  });
  expect(resentResult.reply?.id).toBe(originalResult.reply?.id as string);
  expect(listEfforts()).toEqual(["low"]);
  expect(await findGeneration(originalResult.reply?.id ?? "")).toEqual({ reasoning_effort: "low", reply_format: null });
});

describe("regenerating a message's answer", () => {
  test("uses the message's options even if the conversation's options have changed", async () => {
    const id = await createConversation({ reasoning_effort: "low" });
    const format = { name: "fruit", schema };
    app.provider.script("one", ...Array(3).fill({ text: "{}" }));
    const { reply } = await app.sendMessage(anna, id, "Hello.", { reasoning_effort: "high", reply_format: format });
    await owner.request("PATCH", `/conversations/${id}`, { reasoning_effort: "minimal" });
    const newAnswer = await app.regenerateAnswer(anna, id, reply?.id ?? "");
    expect(listEfforts()).toEqual(["high", "high"]);
    expect(await findGeneration(newAnswer.id)).toEqual({ reasoning_effort: "high", reply_format: format });
    // The message's options are used even after its generations are deleted.
    await app.parley.database`delete from generations where conversation_id = ${id}`;
    const laterAnswer = await app.regenerateAnswer(anna, id, reply?.id ?? "");
    expect(await findGeneration(laterAnswer.id)).toEqual({ reasoning_effort: "high", reply_format: format });
    for (const { body } of app.provider.requests)
      expect(body.response_format).toMatchObject({ json_schema: { name: "fruit" } });
  });

  test("uses the conversation's current effort if the message had none", async () => {
    const id = await createConversation({ reasoning_effort: "low" });
    const { reply } = await app.sendMessage(anna, id, "Hello.");
    await owner.request("PATCH", `/conversations/${id}`, { reasoning_effort: "medium" });
    await app.regenerateAnswer(anna, id, reply?.id ?? "");
    await owner.request("PATCH", `/conversations/${id}`, { reasoning_effort: null });
    await app.regenerateAnswer(anna, id, reply?.id ?? "");
    expect(listEfforts()).toEqual(["low", "medium", null]);
  });

  test("uses the message's options even if it has no answer yet", async () => {
    const id = await createConversation();
    const { message } = await app.sendMessage(anna, id, "Hello.", { reply: false, reasoning_effort: "high" });
    expect(app.provider.requests).toEqual([]);
    await app.regenerateAnswer(anna, id, message.id);
    expect(listEfforts()).toEqual(["high"]);
  });
});

test("every tool step uses the effort, but title generation doesn't", async () => {
  const { id } = await app.createConversation(anna, [], { title: "", tools: true, reasoning_effort: "low" });
  const call = { name: "search_documents", arguments: '{"query":"backup"}' };
  app.provider.script("one", { text: "Let me look. ", toolCalls: [call] }, { text: "Found." }, { text: "A title" });
  await app.sendMessage(anna, id, "Look it up.", { reasoning_effort: "high" });
  await app.waitForValue(() => (app.provider.requests.length >= 3 ? true : undefined));
  expect(listEfforts()).toEqual(["high", "high", null]);
});

test("deleting a message deletes its options and subtracts their bytes from the quota usage", async () => {
  const id = await createConversation();
  const { message } = await app.sendMessage(anna, id, "Hello.", { reply: false, reply_format: { schema } });
  const getStoredOptions = async () => {
    const [row] = await app.parley.database<{ options: unknown; bytes: number }[]>`
      select x.reply_options as options, m.written_bytes::int as bytes
      from messages x join members m on m.conversation_id = x.conversation_id where x.id = ${message.id}`;
    return row;
  };
  const options = { reply_format: { schema } };
  expect(await getStoredOptions()).toEqual({ options, bytes: "Hello.".length + JSON.stringify(options).length });
  const getExportedOptions = async () => {
    const response = await app.parley.fetch("/api/v1/me/export", { token: anna.access_token });
    const { messages } = (await response.json()) as { messages: (Message & { reply_options: unknown })[] };
    return messages.find((exported) => exported.id === message.id)?.reply_options;
  };
  expect(await getExportedOptions()).toEqual(options);
  expect((await owner.request("DELETE", `/conversations/${id}/messages/${message.id}`)).status).toBe(204);
  expect(await getStoredOptions()).toEqual({ options: null, bytes: 0 });
  expect(await getExportedOptions()).toBeNull();
});

test("deleting a question deletes its format from the generations of all its answers", async () => {
  const id = await createConversation();
  const format = { schema };
  const [deletedQuestion, otherQuestion] = [
    await app.sendMessage(anna, id, "Hello.", { reply_format: format }),
    await app.sendMessage(anna, id, "And now?", { reply_format: format }),
  ];
  const { body } = await owner.request<{ reply: Message }>(
    "POST",
    `/conversations/${id}/messages/${deletedQuestion.message.id}/regenerate`,
  );
  const ids = [deletedQuestion.reply?.id, body.reply.id, otherQuestion.reply?.id].map(String);
  const listFormats = async () => (await Promise.all(ids.map(findGeneration))).map((row) => row?.reply_format);
  expect(await listFormats()).toEqual([format, format, format]);
  expect((await owner.request("DELETE", `/conversations/${id}/messages/${deletedQuestion.message.id}`)).status).toBe(
    204,
  );
  expect(await listFormats()).toEqual([null, null, format]);
});
