import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Message } from "../../src/protocol/message.ts";
import type { RestClient } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";
import { createQuotaProblem, getQuotas, type QuotaApp, startQuotas } from "./start-quotas.ts";

const LIMIT = 1_000;
const createText = (bytes: number) => "ä".repeat(bytes / 2);

let quotas: QuotaApp;
beforeAll(async () => {
  quotas = await startQuotas({ QUOTA_STORED_BYTES: String(LIMIT) });
});
afterAll(() => quotas.stop());

type SentMessage = { message: Message };
const sendMessage = (rest: RestClient, id: string, content: string, fields: object = {}) =>
  rest.request<SentMessage>("POST", `/conversations/${id}/messages`, { content, reply: false, ...fields });
const countMessages = async (rest: RestClient, id: string) =>
  (await rest.listAll<Message>(`/conversations/${id}/messages`, 50)).rows.length;

describe("stored bytes", () => {
  test("are counted in UTF-8, and rejected beyond the quota until something is deleted", async () => {
    const [anna, ben] = [await quotas.register(), await quotas.register()];
    const id = await quotas.createConversation(anna);
    await anna.request("POST", `/conversations/${id}/members`, { user_id: ben.id });
    for (let n = 0; n < 4; n += 1) expect((await sendMessage(anna, id, createText(250))).status).toBe(201);
    const problem = await anna.requestProblem("POST", `/conversations/${id}/messages`, { content: "x", reply: false });
    expect(problem).toMatchObject(createQuotaProblem("stored_bytes"));
    expect(await countMessages(anna, id)).toBe(4);
    expect((await getQuotas(anna)).stored_bytes).toEqual({ used: LIMIT, limit: LIMIT });
    expect((await sendMessage(ben, id, createText(250))).status).toBe(201);
    expect((await getQuotas(ben)).stored_bytes.used).toBe(250);

    const otherId = await quotas.createConversation(anna);
    expect((await anna.request("DELETE", `/conversations/${id}`)).status).toBe(204);
    expect((await sendMessage(anna, otherId, createText(250))).status).toBe(201);
    expect((await getQuotas(anna)).stored_bytes.used).toBe(250);
  });

  test("beyond the quota are rejected over a socket, which stays open", async () => {
    const anna = await quotas.register();
    const conversation_id = await quotas.createConversation(anna);
    const socket = await openSocket(quotas.parley.url, { token: anna.account.access_token });
    const sendFrame = (content: string) =>
      socket.request({ type: "message.send", conversation_id, content, client_message_id: content.slice(0, 50) });
    expect(await sendFrame(createText(LIMIT))).toMatchObject({ type: "ack" });
    expect(await sendFrame("more")).toMatchObject({ type: "error", code: "quota_exceeded", temporary: false });
    socket.send({ type: "ping" });
    await socket.waitFor(({ type }) => type === "pong");
    expect(await countMessages(anna, conversation_id)).toBe(1);
    await socket.close();
  });

  test("are not counted twice for a resent message", async () => {
    const anna = await quotas.register();
    const id = await quotas.createConversation(anna);
    const fields = { client_message_id: "one" };
    const firstSend = await sendMessage(anna, id, createText(LIMIT), fields);
    const resent = await sendMessage(anna, id, createText(LIMIT), fields);
    expect(resent).toMatchObject({ status: 201, body: { message: { id: firstSend.body.message.id } } });
    expect((await sendMessage(anna, id, "x", { client_message_id: "two" })).status).toBe(403);
  });

  test("beyond the quota are rejected on /v1 in OpenAI's format, before a model is called", async () => {
    const anna = await quotas.register();
    const conversation_id = await quotas.createConversation(anna);
    expect((await sendMessage(anna, conversation_id, createText(LIMIT))).status).toBe(201);
    const requestCompletion = (metadata: object) =>
      quotas.parley.fetch("/v1/chat/completions", {
        token: anna.account.access_token,
        json: { model: "offline/documents", messages: [{ role: "user", content: "Hello?" }], metadata },
      });
    const rejectedResponse = await requestCompletion({ conversation_id });
    expect(rejectedResponse.status).toBe(403);
    expect(await rejectedResponse.json()).toMatchObject({
      error: { code: "quota_exceeded", type: "permission_error" },
    });
    expect(await countMessages(anna, conversation_id)).toBe(1);
    const unstoredCompletion = await requestCompletion({});
    expect(unstoredCompletion.status).toBe(200);
    await unstoredCompletion.text();
  });

  test("change with edits and deletions, even by other users", async () => {
    const [anna, ben] = [await quotas.register(), await quotas.register()];
    const id = await quotas.createConversation(ben);
    await ben.request("POST", `/conversations/${id}/members`, { user_id: anna.id });
    const [firstMessage, secondMessage] = [
      (await sendMessage(anna, id, createText(400))).body.message,
      (await sendMessage(anna, id, createText(400))).body.message,
    ];
    const editMessage = (message: Message, bytes: number) =>
      anna.request("PATCH", `/conversations/${id}/messages/${message.id}`, { content: createText(bytes) });
    expect((await editMessage(firstMessage, 602)).status).toBe(403);
    expect((await editMessage(firstMessage, 600)).status).toBe(200);
    expect((await sendMessage(anna, id, "x")).status).toBe(403);
    expect((await editMessage(firstMessage, 100)).status).toBe(200);
    expect((await getQuotas(anna)).stored_bytes.used).toBe(500);
    expect((await anna.request("DELETE", `/conversations/${id}/messages/${firstMessage.id}`)).status).toBe(204);
    expect((await getQuotas(anna)).stored_bytes.used).toBe(400);
    expect((await sendMessage(anna, id, createText(600))).status).toBe(201);
    expect((await ben.request("DELETE", `/conversations/${id}/messages/${secondMessage.id}`)).status).toBe(204);
    const rows = await quotas.parley.database`
      select written_bytes from members where conversation_id = ${id} and user_id = ${anna.id}`;
    expect(rows).toMatchObject([{ written_bytes: 600 }]);
  });

  test("include prompts with all their versions", async () => {
    const anna = await quotas.register();
    const createPrompt = (template: string) =>
      anna.request<{ id: string }>("POST", "/prompts", { name: "P", template });
    const { id } = (await createPrompt(createText(400))).body;
    expect((await anna.request("PATCH", `/prompts/${id}`, { template: createText(500) })).status).toBe(200);
    expect((await createPrompt(createText(102))).status).toBe(403);
    expect(await anna.requestProblem("PATCH", `/prompts/${id}`, { template: createText(200) })).toMatchObject(
      createQuotaProblem("stored_bytes"),
    );
    expect((await anna.request("PATCH", `/prompts/${id}`, { template: createText(500), name: "Same" })).status).toBe(
      200,
    );
    expect((await getQuotas(anna)).stored_bytes.used).toBe(900);
    expect((await anna.request("DELETE", `/prompts/${id}/versions/1`)).status).toBe(204);
    expect((await getQuotas(anna)).stored_bytes.used).toBe(500);
    expect((await createPrompt(createText(500))).status).toBe(201);
    expect((await anna.request("DELETE", `/prompts/${id}`)).status).toBe(204);
    expect((await getQuotas(anna)).stored_bytes.used).toBe(500);
  });
});
