import { afterAll, beforeAll, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import { insertAnswer } from "../support/answer.ts";
import type { RestClient } from "../support/rest.ts";
import { createQuotaProblem, type QuotaApp, readQuotas, startQuotas } from "./start-quotas.ts";

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
  refused: responses.filter(({ status }) => status === 403).length,
});
type Created = { id: string };
const create = (rest: RestClient) => rest.request<Created>("POST", "/conversations", {});

test("five of 20 concurrently requested conversations are created, and deleting one frees its capacity", async () => {
  const [anna, ben] = [await quotas.register(), await quotas.register()];
  const all = await Promise.all(Array.from({ length: 20 }, () => create(anna)));
  expect(countStatuses(all)).toEqual({ created: 5, refused: 15 });
  expect(await anna.requestProblem("POST", "/conversations", {})).toMatchObject(createQuotaProblem("conversations"));
  expect((await anna.listAll("/conversations", 50)).rows).toHaveLength(5);
  expect((await create(ben)).status).toBe(201);

  const [first] = all.filter(({ status }) => status === 201).map(({ body }) => body.id);
  expect((await anna.request("DELETE", `/conversations/${first}`)).status).toBe(204);
  expect((await create(anna)).status).toBe(201);
  expect((await create(anna)).status).toBe(403);
});

test("conversations that a user was added to, even as an owner, do not count as theirs", async () => {
  const [anna, ben] = [await quotas.register(), await quotas.register()];
  for (let n = 0; n < 5; n += 1) {
    const id = await quotas.openConversation(ben);
    const added = await ben.request("POST", `/conversations/${id}/members`, { user_id: anna.id, role: "owner" });
    expect(added.status).toBe(201);
  }
  expect(await readQuotas(anna)).toMatchObject({
    conversations: { used: 0, limit: 5 },
    joined_conversations: { used: 5 },
  });
  expect((await create(anna)).status).toBe(201);
});

test("the idempotency key of a refused request can be used again once there is capacity", async () => {
  const anna = await quotas.register();
  const created = await Promise.all(Array.from({ length: 5 }, () => create(anna)));
  const headers = { "idempotency-key": createId() };
  expect((await anna.request("POST", "/conversations", {}, headers)).status).toBe(403);
  await anna.request("DELETE", `/conversations/${created[0]?.body.id}`);
  expect((await anna.request("POST", "/conversations", {}, headers)).status).toBe(201);
});

test("prompts and their versions are counted", async () => {
  const anna = await quotas.register();
  const created: Created[] = [];
  for (let n = 0; n < 3; n += 1)
    created.push((await anna.request<Created>("POST", "/prompts", { name: `${n}`, template: "one" })).body);
  expect(await anna.requestProblem("POST", "/prompts", { name: "3", template: "one" })).toMatchObject(
    createQuotaProblem("prompts"),
  );
  expect((await anna.listAll("/prompts", 50)).rows).toHaveLength(3);

  const path = `/prompts/${created[0]?.id}`;
  for (const template of ["two", "three"]) expect((await anna.request("PATCH", path, { template })).status).toBe(200);
  expect(await anna.requestProblem("PATCH", path, { template: "four" })).toMatchObject(
    createQuotaProblem("prompt_versions"),
  );
  expect((await anna.get<{ template: string }>(path)).body.template).toBe("three");
  expect((await anna.request("PATCH", path, { name: "renamed", template: "three" })).status).toBe(200);
  expect(await readQuotas(anna)).toMatchObject({
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

test("at the feedback limit, a rating can be changed, or removed in favor of another", async () => {
  const [anna, ben] = [await quotas.register(), await quotas.register()];
  const id = await quotas.openConversation(anna);
  await anna.request("POST", `/conversations/${id}/members`, { user_id: ben.id });
  const rate = async (rest: RestClient, messageId: string, rating: number) =>
    (await rest.request("PUT", `/conversations/${id}/messages/${messageId}/feedback`, { rating })).status;
  const answers: string[] = [];
  for (const seq of [11, 12, 13]) {
    const answer = { conversationId: id, seq, requestedBy: anna.id, status: "finished", text: "yes" } as const;
    answers.push((await insertAnswer(quotas.parley.database, answer)).message_id);
  }
  const [first = "", second = "", third = ""] = answers;
  expect([await rate(anna, first, 1), await rate(anna, second, 1)]).toEqual([200, 200]);
  const path = `/conversations/${id}/messages/${third}/feedback`;
  expect(await anna.requestProblem("PUT", path, { rating: 1 })).toMatchObject(createQuotaProblem("feedback"));
  expect(await rate(ben, third, 1)).toBe(200);
  expect(await rate(anna, first, -1)).toBe(200);

  expect(await anna.requestProblem("DELETE", path)).toMatchObject({ status: 404 });
  expect((await anna.request("DELETE", `/conversations/${id}/messages/${first}/feedback`)).status).toBe(204);
  expect(await rate(anna, third, -1)).toBe(200);
  expect(await readQuotas(anna)).toMatchObject({ feedback: { used: 2, limit: 2 } });
});

test("API keys are counted", async () => {
  const anna = await quotas.register();
  const input = { name: "Test", scopes: ["messages:read"] };
  const [first] = [
    await anna.request<Created>("POST", "/api-keys", input),
    await anna.request("POST", "/api-keys", input),
  ];
  expect(await anna.requestProblem("POST", "/api-keys", input)).toMatchObject(createQuotaProblem("api_keys"));
  await anna.request("DELETE", `/api-keys/${first?.body.id}`);
  expect((await anna.request("POST", "/api-keys", input)).status).toBe(201);
});

test("a user's usage lists all quotas, and the metrics count refusals", async () => {
  const metrics = await quotas.parley.fetch("/metrics");
  expect(await metrics.text()).toMatch(/^parley_quota_rejections_total\{quota="api_keys"\} [1-9]/m);
  const anna = await quotas.register();
  expect(await readQuotas(anna)).toEqual({
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
  await create(anna);
  await anna.request("POST", "/prompts", { name: "Name", template: "zwölf" });
  expect(await readQuotas(anna)).toMatchObject({
    stored_bytes: { used: 6 },
    conversations: { used: 1 },
    prompts: { used: 1 },
    prompt_versions: { used: 1 },
  });
});
