import { afterEach, describe, expect, test } from "bun:test";
import { createAnswerLimit } from "../../src/limits/answer-limit.ts";
import { type ModelApp, startModelApp } from "../generations/start-model-app.ts";
import type { Account } from "../support/client.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";

let app: ModelApp;
afterEach(() => app?.stop());

/** Starts Parley with a model that sends one word, then nothing until the answer is stopped. */
const startStalling = async (config: Record<string, string>) => {
  app = await startModelApp({ RATE_LIMIT_ENABLED: "true", AI_IDLE_TIMEOUT_MS: "60000", ...config });
  app.provider.script("one", { text: "Well", fault: "stall", piecesBeforeFault: 1 });
};
const startQuick = async (config: Record<string, string>) => {
  app = await startModelApp({ RATE_LIMIT_ENABLED: "true", ...config });
  app.provider.script("one", { text: "Yes." });
};
const register = async (): Promise<{ account: Account; rest: RestClient }> => {
  const account = await app.parley.register();
  return { account, rest: createRestClient(app.parley, account) };
};
const createConversationId = async (account: Account, reply_mode = "never") =>
  (await app.createConversation(account, [], { reply_mode })).id;
const countMessages = async () => {
  const [row] = await app.parley.database<{ count: number }[]>`select count(*)::int as count from messages`;
  return row?.count;
};
type SentMessage = { message: { id: string }; reply: { id: string } | null };
const send = (rest: RestClient, id: string, fields: object = { reply: true }) =>
  rest.request<SentMessage & { code?: string }>("POST", `/conversations/${id}/messages`, {
    content: "Well?",
    ...fields,
  });

describe("answers requested by one user", () => {
  test("are counted together, however they are requested", async () => {
    await startQuick({ RATE_LIMIT_AI_PER_10S: "4" });
    const { account, rest } = await register();
    const id = await createConversationId(account);
    const first = await send(rest, id);
    expect(first.status).toBe(201);
    await app.waitUntil(async () => {
      const path = `/conversations/${id}/messages/${first.body.reply?.id}`;
      return (await rest.get<{ status: string }>(path)).body.status === "complete" || undefined;
    });
    const socket = await openSocket(app.parley.url, { token: account.access_token });
    const frame = {
      type: "message.send",
      conversation_id: id,
      content: "Again?",
      client_message_id: "m1",
      reply: true,
    };
    expect(await socket.request(frame)).toMatchObject({ type: "ack" });
    const regenerate = { type: "generation.regenerate", message_id: first.body.message.id };
    expect(await socket.request(regenerate)).toMatchObject({ type: "ack" });
    const json = { model: "compatible/one", messages: [{ role: "user", content: "And now?" }] };
    const complete = () => app.parley.fetch("/v1/chat/completions", { token: account.access_token, json });
    expect((await complete()).status).toBe(200);

    const before = await countMessages();
    const refused = await send(rest, id);
    expect(refused).toMatchObject({ status: 429, body: { code: "rate_limited", violated_policies: ["burst"] } });
    expect(Number(refused.headers.get("retry-after"))).toBeWithin(1, 11);
    expect(refused.headers.get("ratelimit-policy")).toStartWith('"burst";q=4;w=10');
    expect(await socket.request({ ...frame, client_message_id: "m2" })).toMatchObject({
      type: "error",
      code: "rate_limited",
      temporary: true,
      retry_after_ms: expect.any(Number),
    });
    expect(await socket.request(regenerate)).toMatchObject({ type: "error", code: "rate_limited" });
    expect((await complete()).status).toBe(429);
    expect(await countMessages()).toBe(before);

    // Messages without an answer are not limited.
    expect((await send(rest, id, { reply: false })).status).toBe(201);
    const other = await register();
    expect((await send(other.rest, await createConversationId(other.account))).status).toBe(201);
    await socket.close();
  });

  test("are counted only if the conversation's reply mode makes a model answer", async () => {
    await startQuick({ RATE_LIMIT_AI_PER_10S: "2" });
    const { account, rest } = await register();
    const [withoutAnswers, withAnswers] = [
      await createConversationId(account),
      await createConversationId(account, "always"),
    ];
    for (let n = 0; n < 5; n += 1) expect((await send(rest, withoutAnswers, {})).status).toBe(201);
    for (let n = 0; n < 2; n += 1) expect((await send(rest, withAnswers, {})).body.reply).not.toBeNull();
    expect((await send(rest, withAnswers, {})).status).toBe(429);
    expect((await send(rest, withAnswers, { reply: false })).status).toBe(201);
  });
});

describe("one user's answers in progress", () => {
  test("are refused past the limit before anything is stored, and release their slot when they end", async () => {
    await startStalling({ RATE_LIMIT_GENERATIONS_PER_USER: "3" });
    const { account, rest } = await register();
    const id = await createConversationId(account);
    const sent = await Promise.all([send(rest, id), send(rest, id), send(rest, id)]);
    expect(sent.map(({ status }) => status)).toEqual([201, 201, 201]);
    const refused = await send(rest, id);
    expect(refused).toMatchObject({ status: 429, body: { code: "rate_limited" } });
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
    expect(await countMessages()).toBe(6);
    const path = `/conversations/${id}/messages/${sent[0]?.body.message.id}/regenerate`;
    expect((await rest.request("POST", path)).status).toBe(429);
    const json = { model: "compatible/one", messages: [{ role: "user", content: "And now?" }] };
    const { access_token: token } = account;
    expect((await app.parley.fetch("/v1/chat/completions", { token, json })).status).toBe(429);
    expect(await (await app.parley.fetch("/metrics")).text()).toContain('{limit="generations"} 3');

    const stop = await rest.request("POST", `/conversations/${id}/messages/${sent[0]?.body.reply?.id}/cancel`);
    expect(stop.body).toMatchObject({ status: "cancelled" });
    expect((await send(rest, id)).status).toBe(201);
    expect((await send(rest, id)).status).toBe(429);
  });

  test("don't exceed a limit of 5 if 20 are requested in parallel", async () => {
    await startStalling({ RATE_LIMIT_GENERATIONS_PER_USER: "5" });
    const { account, rest } = await register();
    const id = await createConversationId(account);
    const responses = await Promise.all(Array.from({ length: 20 }, () => send(rest, id)));
    expect(responses.filter(({ status }) => status === 201)).toHaveLength(5);
    expect(responses.filter(({ status }) => status === 429)).toHaveLength(15);
  });

  test("that OpenAI clients requested count until they end or the client disconnects", async () => {
    await startStalling({ RATE_LIMIT_GENERATIONS_PER_USER: "1" });
    const { access_token: token } = (await register()).account;
    const json = { model: "compatible/one", stream: true, messages: [{ role: "user", content: "And now?" }] };
    const disconnecting = new AbortController();
    const complete = (signal?: AbortSignal) =>
      fetch(`${app.parley.url}/v1/chat/completions`, {
        method: "POST",
        headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
        body: JSON.stringify(json),
        ...(signal && { signal }),
      });
    const first = await complete(disconnecting.signal);
    expect(first.status).toBe(200);
    await first.body?.getReader().read();
    expect((await complete()).status).toBe(429);
    disconnecting.abort();
    await app.waitUntil(async () => {
      const retry = new AbortController();
      const { status } = await complete(retry.signal);
      retry.abort();
      return status === 200 || undefined;
    });
  });

  test("are unlimited if the limit is 0", async () => {
    await startStalling({ RATE_LIMIT_GENERATIONS_PER_USER: "0" });
    const { account, rest } = await register();
    const id = await createConversationId(account);
    const responses = await Promise.all(Array.from({ length: 10 }, () => send(rest, id)));
    expect(responses.filter(({ status }) => status === 201)).toHaveLength(10);
  });
});

test("a user's event feeds past the limit are refused, and closing a feed releases its slot", async () => {
  await startQuick({ RATE_LIMIT_FEEDS_PER_USER: "2" });
  const { account } = await register();
  const id = await createConversationId(account);
  const open = () =>
    app.parley.fetch(`/api/v1/conversations/${id}/events`, {
      token: account.access_token,
      headers: { accept: "text/event-stream" },
    });
  const [first, second] = [await open(), await open()];
  const refused = await open();
  expect(refused.status).toBe(429);
  expect(await refused.json()).toMatchObject({ code: "rate_limited" });
  await first.body?.cancel();
  const third = await app.waitUntil(async () => {
    const response = await open();
    return response.status === 200 ? response : undefined;
  });
  await Promise.all([second.body?.cancel(), third.body?.cancel()]);
});

test("the database is queried only for users who may have reached the limit", async () => {
  let stored = 0;
  let queries = 0;
  const limit = createAnswerLimit({
    answersMax: 100,
    countStored: async () => {
      queries += 1;
      return stored;
    },
    onRejected: () => {},
  });
  const begin = () => limit.store("anna", async () => "stored");
  for (let n = 0; n < 100; n += 1) expect(await begin()).toBe("stored");
  expect(queries).toBe(0);
  stored = 40;
  await Promise.all(Array.from({ length: 60 }, begin));
  expect(queries).toBe(1);
  stored = 100;
  expect(begin()).rejects.toMatchObject({ code: "rate_limited" });
});
