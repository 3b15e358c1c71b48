import { afterEach, describe, expect, test } from "bun:test";
import { createAnswerLimit } from "../../src/limits/answer-limit.ts";
import { type ModelApp, startModelApp } from "../generations/start-model-app.ts";
import type { Account } from "../support/client.ts";
import { createRest, type Rest } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";

let asking: ModelApp;
afterEach(() => asking?.stop());

/** Models that send a word and then nothing until they are stopped. */
const startSilent = async (config: Record<string, string>) => {
  asking = await startModelApp({ RATE_LIMIT_ENABLED: "true", AI_IDLE_TIMEOUT_MS: "60000", ...config });
  asking.provider.script("one", { text: "Well", fault: "stall", after: 1 });
};
const startQuick = async (config: Record<string, string>) => {
  asking = await startModelApp({ RATE_LIMIT_ENABLED: "true", ...config });
  asking.provider.script("one", { text: "Yes." });
};
const join = async (): Promise<{ account: Account; rest: Rest }> => {
  const account = await asking.parley.register();
  return { account, rest: createRest(asking.parley, account) };
};
const openConversation = async (account: Account, reply_mode = "never") =>
  (await asking.createConversation(account, [], { reply_mode })).id;
const countMessages = async () => {
  const [row] = await asking.parley.database<{ count: number }[]>`select count(*)::int as count from messages`;
  return row?.count;
};
type Sent = { message: { id: string }; reply: { id: string } | null };
const send = (rest: Rest, id: string, more: object = { reply: true }) =>
  rest.request<Sent & { code?: string }>("POST", `/conversations/${id}/messages`, { content: "Well?", ...more });

describe("answers requested by one user", () => {
  test("are counted together across all ways of requesting them", async () => {
    await startQuick({ RATE_LIMIT_AI_PER_10S: "4" });
    const { account, rest } = await join();
    const id = await openConversation(account);
    const first = await send(rest, id);
    expect(first.status).toBe(201);
    await asking.waitUntil(async () => {
      const path = `/conversations/${id}/messages/${first.body.reply?.id}`;
      return (await rest.get<{ status: string }>(path)).body.status === "complete" || undefined;
    });
    const socket = await openSocket(asking.parley.url, { token: account.access_token });
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
    const complete = () => asking.parley.fetch("/v1/chat/completions", { token: account.access_token, json });
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

    // Messages among people request no answer.
    expect((await send(rest, id, { reply: false })).status).toBe(201);
    const other = await join();
    expect((await send(other.rest, await openConversation(other.account))).status).toBe(201);
    await socket.close();
  });

  test("count only where a model does answer, if the conversation decides", async () => {
    await startQuick({ RATE_LIMIT_AI_PER_10S: "2" });
    const { account, rest } = await join();
    const [withoutAnswers, withAnswers] = [await openConversation(account), await openConversation(account, "always")];
    for (let n = 0; n < 5; n += 1) expect((await send(rest, withoutAnswers, {})).status).toBe(201);
    for (let n = 0; n < 2; n += 1) expect((await send(rest, withAnswers, {})).body.reply).not.toBeNull();
    expect((await send(rest, withAnswers, {})).status).toBe(429);
    expect((await send(rest, withAnswers, { reply: false })).status).toBe(201);
  });
});

describe("answers in progress of one user", () => {
  test("are refused past the limit before anything is stored; one that ends frees its slot", async () => {
    await startSilent({ RATE_LIMIT_GENERATIONS_PER_USER: "3" });
    const { account, rest } = await join();
    const id = await openConversation(account);
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
    expect((await asking.parley.fetch("/v1/chat/completions", { token, json })).status).toBe(429);
    expect(await (await asking.parley.fetch("/metrics")).text()).toContain('{limit="generations"} 3');

    const stop = await rest.request("POST", `/conversations/${id}/messages/${sent[0]?.body.reply?.id}/cancel`);
    expect(stop.body).toMatchObject({ status: "cancelled" });
    expect((await send(rest, id)).status).toBe(201);
    expect((await send(rest, id)).status).toBe(429);
  });

  test("20 at once against a limit of 5: five begin", async () => {
    await startSilent({ RATE_LIMIT_GENERATIONS_PER_USER: "5" });
    const { account, rest } = await join();
    const id = await openConversation(account);
    const all = await Promise.all(Array.from({ length: 20 }, () => send(rest, id)));
    expect(all.filter(({ status }) => status === 201)).toHaveLength(5);
    expect(all.filter(({ status }) => status === 429)).toHaveLength(15);
  });

  test("of OpenAI clients count until they end or their reader disconnects", async () => {
    await startSilent({ RATE_LIMIT_GENERATIONS_PER_USER: "1" });
    const { access_token: token } = (await join()).account;
    const json = { model: "compatible/one", stream: true, messages: [{ role: "user", content: "And now?" }] };
    const leave = new AbortController();
    const ask = (signal?: AbortSignal) =>
      fetch(`${asking.parley.url}/v1/chat/completions`, {
        method: "POST",
        headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
        body: JSON.stringify(json),
        ...(signal && { signal }),
      });
    const first = await ask(leave.signal);
    expect(first.status).toBe(200);
    await first.body?.getReader().read();
    expect((await ask()).status).toBe(429);
    leave.abort();
    await asking.waitUntil(async () => {
      const again = new AbortController();
      const { status } = await ask(again.signal);
      again.abort();
      return status === 200 || undefined;
    });
  });

  test("are unlimited with 0", async () => {
    await startSilent({ RATE_LIMIT_GENERATIONS_PER_USER: "0" });
    const { account, rest } = await join();
    const id = await openConversation(account);
    const all = await Promise.all(Array.from({ length: 10 }, () => send(rest, id)));
    expect(all.filter(({ status }) => status === 201)).toHaveLength(10);
  });
});

test("live feeds of one user past the limit are refused, and one that ends frees its slot", async () => {
  await startQuick({ RATE_LIMIT_FEEDS_PER_USER: "2" });
  const { account } = await join();
  const id = await openConversation(account);
  const open = () =>
    asking.parley.fetch(`/api/v1/conversations/${id}/events`, {
      token: account.access_token,
      headers: { accept: "text/event-stream" },
    });
  const [first, second] = [await open(), await open()];
  const refused = await open();
  expect(refused.status).toBe(429);
  expect(await refused.json()).toMatchObject({ code: "rate_limited" });
  await first.body?.cancel();
  const third = await asking.waitUntil(async () => {
    const again = await open();
    return again.status === 200 ? again : undefined;
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
    onRefused: () => {},
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
