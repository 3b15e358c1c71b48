import { afterEach, describe, expect, test } from "bun:test";
import { createAnswerLimit } from "../../src/limits/answer-limit.ts";
import { type ModelApp, startModelApp } from "../generations/start-model-app.ts";
import type { Account } from "../support/client.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";

let app: ModelApp;
afterEach(() => app?.stop());

/** Starts Parley with a model that sends one word, then nothing until the answer is stopped. */
const startWithStallingModel = async (config: Record<string, string>) => {
  app = await startModelApp({ RATE_LIMIT_ENABLED: "true", AI_IDLE_TIMEOUT_MS: "60000", ...config });
  app.provider.script("one", { text: "Well", fault: "stall", piecesBeforeFault: 1 });
};
const startWithQuickModel = async (config: Record<string, string>) => {
  app = await startModelApp({ RATE_LIMIT_ENABLED: "true", ...config });
  app.provider.script("one", { text: "Yes." });
};
const registerUser = async (): Promise<{ account: Account; rest: RestClient }> => {
  const account = await app.parley.register();
  return { account, rest: createRestClient(app.parley, account) };
};
const createConversation = async (account: Account, reply_mode = "never") =>
  (await app.createConversation(account, [], { reply_mode })).id;
const countMessages = async () => {
  const [row] = await app.parley.database<{ count: number }[]>`select count(*)::int as count from messages`;
  return row?.count;
};
type SentMessage = { message: { id: string }; reply: { id: string } | null };
const sendMessage = (rest: RestClient, id: string, fields: object = { reply: true }) =>
  rest.request<SentMessage & { code?: string }>("POST", `/conversations/${id}/messages`, {
    content: "Well?",
    ...fields,
  });

describe("answers requested by one user", () => {
  test("are counted together, no matter how they are requested", async () => {
    await startWithQuickModel({ RATE_LIMIT_AI_PER_10S: "4" });
    const { account, rest } = await registerUser();
    const id = await createConversation(account);
    const firstSend = await sendMessage(rest, id);
    expect(firstSend.status).toBe(201);
    await app.waitForValue(async () => {
      const path = `/conversations/${id}/messages/${firstSend.body.reply?.id}`;
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
    const regenerateFrame = { type: "generation.regenerate", message_id: firstSend.body.message.id };
    expect(await socket.request(regenerateFrame)).toMatchObject({ type: "ack" });
    const json = { model: "compatible/one", messages: [{ role: "user", content: "And now?" }] };
    const requestCompletion = () => app.parley.fetch("/v1/chat/completions", { token: account.access_token, json });
    expect((await requestCompletion()).status).toBe(200);

    const messageCountBefore = await countMessages();
    const rejectedSend = await sendMessage(rest, id);
    expect(rejectedSend).toMatchObject({ status: 429, body: { code: "rate_limited", violated_policies: ["burst"] } });
    expect(Number(rejectedSend.headers.get("retry-after"))).toBeWithin(1, 11);
    expect(rejectedSend.headers.get("ratelimit-policy")).toStartWith('"burst";q=4;w=10');
    expect(await socket.request({ ...frame, client_message_id: "m2" })).toMatchObject({
      type: "error",
      code: "rate_limited",
      temporary: true,
      retry_after_ms: expect.any(Number),
    });
    expect(await socket.request(regenerateFrame)).toMatchObject({ type: "error", code: "rate_limited" });
    expect((await requestCompletion()).status).toBe(429);
    expect(await countMessages()).toBe(messageCountBefore);

    // Messages without an answer are not limited.
    expect((await sendMessage(rest, id, { reply: false })).status).toBe(201);
    const ben = await registerUser();
    expect((await sendMessage(ben.rest, await createConversation(ben.account))).status).toBe(201);
    await socket.close();
  });

  test("are counted only if the conversation's reply mode makes a model answer", async () => {
    await startWithQuickModel({ RATE_LIMIT_AI_PER_10S: "2" });
    const { account, rest } = await registerUser();
    const [silentConversationId, answeringConversationId] = [
      await createConversation(account),
      await createConversation(account, "always"),
    ];
    for (let n = 0; n < 5; n += 1) expect((await sendMessage(rest, silentConversationId, {})).status).toBe(201);
    for (let n = 0; n < 2; n += 1)
      expect((await sendMessage(rest, answeringConversationId, {})).body.reply).not.toBeNull();
    expect((await sendMessage(rest, answeringConversationId, {})).status).toBe(429);
    expect((await sendMessage(rest, answeringConversationId, { reply: false })).status).toBe(201);
  });
});

describe("one user's answers in progress", () => {
  test("are rejected beyond the limit before anything is stored, and release their slot when they finish", async () => {
    await startWithStallingModel({ RATE_LIMIT_GENERATIONS_PER_USER: "3" });
    const { account, rest } = await registerUser();
    const id = await createConversation(account);
    const responses = await Promise.all([sendMessage(rest, id), sendMessage(rest, id), sendMessage(rest, id)]);
    expect(responses.map(({ status }) => status)).toEqual([201, 201, 201]);
    const rejectedSend = await sendMessage(rest, id);
    expect(rejectedSend).toMatchObject({ status: 429, body: { code: "rate_limited" } });
    expect(Number(rejectedSend.headers.get("retry-after"))).toBeGreaterThan(0);
    expect(await countMessages()).toBe(6);
    const path = `/conversations/${id}/messages/${responses[0]?.body.message.id}/regenerate`;
    expect((await rest.request("POST", path)).status).toBe(429);
    const json = { model: "compatible/one", messages: [{ role: "user", content: "And now?" }] };
    const { access_token: token } = account;
    expect((await app.parley.fetch("/v1/chat/completions", { token, json })).status).toBe(429);
    expect(await (await app.parley.fetch("/metrics")).text()).toContain('{limit="generations"} 3');

    const stop = await rest.request("POST", `/conversations/${id}/messages/${responses[0]?.body.reply?.id}/cancel`);
    expect(stop.body).toMatchObject({ status: "cancelled" });
    expect((await sendMessage(rest, id)).status).toBe(201);
    expect((await sendMessage(rest, id)).status).toBe(429);
  });

  test("don't exceed a limit of 5 if 20 are requested in parallel", async () => {
    await startWithStallingModel({ RATE_LIMIT_GENERATIONS_PER_USER: "5" });
    const { account, rest } = await registerUser();
    const id = await createConversation(account);
    const responses = await Promise.all(Array.from({ length: 20 }, () => sendMessage(rest, id)));
    expect(responses.filter(({ status }) => status === 201)).toHaveLength(5);
    expect(responses.filter(({ status }) => status === 429)).toHaveLength(15);
  });

  test("that were requested by an OpenAI client count until they finish or the client disconnects", async () => {
    await startWithStallingModel({ RATE_LIMIT_GENERATIONS_PER_USER: "1" });
    const { access_token: token } = (await registerUser()).account;
    const json = { model: "compatible/one", stream: true, messages: [{ role: "user", content: "And now?" }] };
    const disconnectController = new AbortController();
    const requestCompletion = (signal?: AbortSignal) =>
      fetch(`${app.parley.url}/v1/chat/completions`, {
        method: "POST",
        headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
        body: JSON.stringify(json),
        ...(signal && { signal }),
      });
    const firstResponse = await requestCompletion(disconnectController.signal);
    expect(firstResponse.status).toBe(200);
    await firstResponse.body?.getReader().read();
    expect((await requestCompletion()).status).toBe(429);
    disconnectController.abort();
    await app.waitForValue(async () => {
      const retry = new AbortController();
      const { status } = await requestCompletion(retry.signal);
      retry.abort();
      return status === 200 || undefined;
    });
  });

  test("are unlimited if the limit is 0", async () => {
    await startWithStallingModel({ RATE_LIMIT_GENERATIONS_PER_USER: "0" });
    const { account, rest } = await registerUser();
    const id = await createConversation(account);
    const responses = await Promise.all(Array.from({ length: 10 }, () => sendMessage(rest, id)));
    expect(responses.filter(({ status }) => status === 201)).toHaveLength(10);
  });
});

test("event feeds beyond a user's limit are rejected, and closing a feed releases its slot", async () => {
  await startWithQuickModel({ RATE_LIMIT_FEEDS_PER_USER: "2" });
  const { account } = await registerUser();
  const id = await createConversation(account);
  const openFeed = () =>
    app.parley.fetch(`/api/v1/conversations/${id}/events`, {
      token: account.access_token,
      headers: { accept: "text/event-stream" },
    });
  const [firstFeed, secondFeed] = [await openFeed(), await openFeed()];
  const rejectedFeed = await openFeed();
  expect(rejectedFeed.status).toBe(429);
  expect(await rejectedFeed.json()).toMatchObject({ code: "rate_limited" });
  await firstFeed.body?.cancel();
  const thirdFeed = await app.waitForValue(async () => {
    const response = await openFeed();
    return response.status === 200 ? response : undefined;
  });
  await Promise.all([secondFeed.body?.cancel(), thirdFeed.body?.cancel()]);
});

test("the database is queried only for users who may have reached the limit", async () => {
  let storedCount = 0;
  let queryCount = 0;
  const limit = createAnswerLimit({
    answersMax: 100,
    countStoredAnswers: async () => {
      queryCount += 1;
      return storedCount;
    },
    onRejected: () => {},
  });
  const storeAnswer = () => limit.store("anna", async () => "stored");
  for (let n = 0; n < 100; n += 1) expect(await storeAnswer()).toBe("stored");
  expect(queryCount).toBe(0);
  storedCount = 40;
  await Promise.all(Array.from({ length: 60 }, storeAnswer));
  expect(queryCount).toBe(1);
  storedCount = 100;
  expect(storeAnswer()).rejects.toMatchObject({ code: "rate_limited" });
});
