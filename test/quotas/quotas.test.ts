import { afterAll, beforeAll, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import { insertAnswer } from "../support/answer.ts";
import type { RestClient } from "../support/rest.ts";
import { createQuotaProblem, getQuotas, type QuotaApp, startQuotas } from "./start-quotas.ts";

let quotas: QuotaApp;
beforeAll(async () => {
  quotas = await startQuotas({
    QUOTA_CONVERSATIONS: "5",
    QUOTA_PROMPTS: "3",
    QUOTA_PROMPT_VERSIONS: "3",
    QUOTA_FEEDBACK: "2",
    QUOTA_API_KEYS: "2",
  });
});
afterAll(() => quotas.stop());

const countStatuses = (responses: { status: number }[]) => ({
  created: responses.filter(({ status }) => status === 201).length,
  rejected: responses.filter(({ status }) => status === 403).length,
});
type CreatedResource = { id: string };
const requestConversation = (rest: RestClient) => rest.request<CreatedResource>("POST", "/conversations", {});

test("five of 20 concurrently requested conversations are created, and deleting one frees its capacity", async () => {
  const [anna, ben] = [await quotas.register(), await quotas.register()];
  const responses = await Promise.all(Array.from({ length: 20 }, () => requestConversation(anna)));
  expect(countStatuses(responses)).toEqual({ created: 5, rejected: 15 });
  expect(await anna.requestProblem("POST", "/conversations", {})).toMatchObject(createQuotaProblem("conversations"));
  expect((await anna.listAll("/conversations", 50)).rows).toHaveLength(5);
  expect((await requestConversation(ben)).status).toBe(201);

  const [firstId] = responses.filter(({ status }) => status === 201).map(({ body }) => body.id);
  expect((await anna.request("DELETE", `/conversations/${firstId}`)).status).toBe(204);
  expect((await requestConversation(anna)).status).toBe(201);
  expect((await requestConversation(anna)).status).toBe(403);
});

test("conversations that a user was added to, even as an owner, do not count as theirs", async () => {
  const [anna, ben] = [await quotas.register(), await quotas.register()];
  for (let n = 0; n < 5; n += 1) {
    const id = await quotas.createConversation(ben);
    const added = await ben.request("POST", `/conversations/${id}/members`, { user_id: anna.id, role: "owner" });
    expect(added.status).toBe(201);
  }
  expect(await getQuotas(anna)).toMatchObject({
    conversations: { used: 0, limit: 5 },
    joined_conversations: { used: 5 },
  });
  expect((await requestConversation(anna)).status).toBe(201);
});

test("the idempotency key of a rejected request can be reused once there is capacity", async () => {
  const anna = await quotas.register();
  const responses = await Promise.all(Array.from({ length: 5 }, () => requestConversation(anna)));
  const headers = { "idempotency-key": createId() };
  expect((await anna.request("POST", "/conversations", {}, headers)).status).toBe(403);
  await anna.request("DELETE", `/conversations/${responses[0]?.body.id}`);
  expect((await anna.request("POST", "/conversations", {}, headers)).status).toBe(201);
});

test("prompts and their versions are counted", async () => {
  const anna = await quotas.register();
  const createdPrompts: CreatedResource[] = [];
  for (let n = 0; n < 3; n += 1)
    createdPrompts.push(
      (await anna.request<CreatedResource>("POST", "/prompts", { name: `${n}`, template: "one" })).body,
    );
  expect(await anna.requestProblem("POST", "/prompts", { name: "3", template: "one" })).toMatchObject(
    createQuotaProblem("prompts"),
  );
  expect((await anna.listAll("/prompts", 50)).rows).toHaveLength(3);

  const path = `/prompts/${createdPrompts[0]?.id}`;
  for (const template of ["two", "three"]) expect((await anna.request("PATCH", path, { template })).status).toBe(200);
  expect(await anna.requestProblem("PATCH", path, { template: "four" })).toMatchObject(
    createQuotaProblem("prompt_versions"),
  );
  expect((await anna.get<{ template: string }>(path)).body.template).toBe("three");
  expect((await anna.request("PATCH", path, { name: "renamed", template: "three" })).status).toBe(200);
  expect(await getQuotas(anna)).toMatchObject({
    prompts: { used: 3, limit: 3 },
    prompt_versions: { used: 3, limit: 3 },
  });

  expect(await anna.requestProblem("DELETE", `${path}/versions/3`)).toMatchObject({ status: 409 });
  expect(await anna.requestProblem("DELETE", `${path}/versions/9`)).toMatchObject({ status: 404 });
  expect(await (await quotas.register()).requestProblem("DELETE", `${path}/versions/1`)).toMatchObject({ status: 404 });
  expect((await anna.request("DELETE", `${path}/versions/1`)).status).toBe(204);
  expect((await anna.request("PATCH", path, { template: "four" })).status).toBe(200);
  const versions = (await anna.listAll<{ version: number }>(`${path}/versions`, 50)).rows.map(({ version }) => version);
  expect(versions).toEqual([4, 3, 2]);

  expect((await anna.request("DELETE", path)).status).toBe(204);
  expect((await anna.request("POST", "/prompts", { name: "3", template: "one" })).status).toBe(201);
});

test("at the feedback limit, a rating can be changed, or deleted to allow another rating", async () => {
  const [anna, ben] = [await quotas.register(), await quotas.register()];
  const id = await quotas.createConversation(anna);
  await anna.request("POST", `/conversations/${id}/members`, { user_id: ben.id });
  const rateAnswer = async (rest: RestClient, messageId: string, rating: number) =>
    (await rest.request("PUT", `/conversations/${id}/messages/${messageId}/feedback`, { rating })).status;
  const answerIds: string[] = [];
  for (const seq of [11, 12, 13]) {
    const answer = { conversationId: id, seq, requestedBy: anna.id, status: "finished", text: "yes" } as const;
    answerIds.push((await insertAnswer(quotas.parley.database, answer)).message_id);
  }
  const [firstId = "", secondId = "", thirdId = ""] = answerIds;
  expect([await rateAnswer(anna, firstId, 1), await rateAnswer(anna, secondId, 1)]).toEqual([200, 200]);
  const path = `/conversations/${id}/messages/${thirdId}/feedback`;
  expect(await anna.requestProblem("PUT", path, { rating: 1 })).toMatchObject(createQuotaProblem("feedback"));
  expect(await rateAnswer(ben, thirdId, 1)).toBe(200);
  expect(await rateAnswer(anna, firstId, -1)).toBe(200);

  expect(await anna.requestProblem("DELETE", path)).toMatchObject({ status: 404 });
  expect((await anna.request("DELETE", `/conversations/${id}/messages/${firstId}/feedback`)).status).toBe(204);
  expect(await rateAnswer(anna, thirdId, -1)).toBe(200);
  expect(await getQuotas(anna)).toMatchObject({ feedback: { used: 2, limit: 2 } });
});

test("API keys are counted", async () => {
  const anna = await quotas.register();
  const input = { name: "Test", scopes: ["messages:read"] };
  const [firstKey] = [
    await anna.request<CreatedResource>("POST", "/api-keys", input),
    await anna.request("POST", "/api-keys", input),
  ];
  expect(await anna.requestProblem("POST", "/api-keys", input)).toMatchObject(createQuotaProblem("api_keys"));
  await anna.request("DELETE", `/api-keys/${firstKey?.body.id}`);
  expect((await anna.request("POST", "/api-keys", input)).status).toBe(201);
});

test("a user's usage lists all quotas, and the metrics count rejections", async () => {
  const metrics = await quotas.parley.fetch("/metrics");
  expect(await metrics.text()).toMatch(/^parley_quota_rejections_total\{quota="api_keys"\} [1-9]/m);
  const anna = await quotas.register();
  expect(await getQuotas(anna)).toEqual({
    stored_bytes: { used: 0, limit: 10 * 1024 ** 3 },
    conversations: { used: 0, limit: 5 },
    joined_conversations: { used: 0, limit: 50_000 },
    prompts: { used: 0, limit: 3 },
    prompt_versions: { used: 0, limit: 3 },
    sessions: { used: 1, limit: 1_000 },
    feedback: { used: 0, limit: 2 },
    api_keys: { used: 0, limit: 2 },
    webhooks: { used: 0, limit: 20 },
  });
  await requestConversation(anna);
  await anna.request("POST", "/prompts", { name: "Name", template: "zwölf" });
  expect(await getQuotas(anna)).toMatchObject({
    stored_bytes: { used: 6 },
    conversations: { used: 1 },
    prompts: { used: 1 },
    prompt_versions: { used: 1 },
  });
});
