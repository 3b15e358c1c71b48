import { afterEach, expect, test } from "bun:test";
import type { RestClient } from "../support/rest.ts";
import { createQuotaProblem, getQuotas, type QuotaApp, startQuotas } from "./start-quotas.ts";

let quotas: QuotaApp;
afterEach(() => quotas.stop());

const enabledLimits = { RATE_LIMIT_ENABLED: "true" };
async function addToNewConversation(adder: RestClient, user: RestClient): Promise<{ id: string; status: number }> {
  const id = await quotas.createConversation(adder);
  const { status } = await adder.request("POST", `/conversations/${id}/members`, { user_id: user.id });
  return { id, status };
}

test("a user at the limit of joined conversations can't be added to more conversations", async () => {
  quotas = await startQuotas({ QUOTA_JOINED_CONVERSATIONS: "5", QUOTA_CONVERSATIONS: "2" });
  const [anna, ben, carl] = [await quotas.register(), await quotas.register(), await quotas.register()];
  const carlsConversationId = await quotas.createConversation(carl);
  const id = await quotas.createConversation(ben);
  const additions = await Promise.all([
    addToNewConversation(carl, anna),
    ...Array.from({ length: 9 }, async () => addToNewConversation(await quotas.register(), anna)),
  ]);
  expect(additions.filter(({ status }) => status === 201)).toHaveLength(5);
  const path = `/conversations/${id}/members`;
  const problem = await ben.requestProblem("POST", path, { user_id: anna.id });
  expect(problem).toMatchObject(createQuotaProblem("joined_conversations"));
  expect(problem.detail).not.toMatch(/\d/);
  expect((await ben.listAll(path, 50)).rows).toHaveLength(1);
  // Other users and Anna's own conversations are not affected.
  expect((await ben.request("POST", path, { user_id: carl.id })).status).toBe(201);
  expect((await anna.listAll("/conversations", 2)).rows).toHaveLength(5);
  await Promise.all([quotas.createConversation(anna), quotas.createConversation(anna)]);
  expect(await getQuotas(anna)).toMatchObject({
    joined_conversations: { used: 5, limit: 5 },
    conversations: { used: 2, limit: 2 },
  });
  // The error reveals nothing about Anna's quota to a user who can't add members.
  expect(
    (await ben.requestProblem("POST", `/conversations/${carlsConversationId}/members`, { user_id: anna.id })).code,
  ).toBe("not_found");

  const addition = additions.find(({ status }) => status === 201);
  expect((await anna.request("DELETE", `/conversations/${addition?.id}/members/${anna.id}`)).status).toBe(204);
  expect((await ben.request("POST", path, { user_id: anna.id })).status).toBe(201);
  // Changing a member's role doesn't count towards the quota.
  expect((await ben.request("POST", path, { user_id: anna.id, role: "viewer" })).status).toBe(201);
});

test("a user who adds members too quickly is rejected, but other users can still add members", async () => {
  quotas = await startQuotas({ ...enabledLimits, RATE_LIMIT_ADDS_PER_10S: "3" });
  const [anna, ben] = [await quotas.register(), await quotas.register()];
  for (let n = 0; n < 3; n += 1) expect((await addToNewConversation(anna, await quotas.register())).status).toBe(201);
  const id = await quotas.createConversation(anna);
  const rejectedResponse = await anna.request("POST", `/conversations/${id}/members`, { user_id: ben.id });
  expect(rejectedResponse).toMatchObject({ status: 429, body: { code: "rate_limited", violated_policies: ["burst"] } });
  expect(Number(rejectedResponse.headers.get("retry-after"))).toBeWithin(1, 11);
  expect((await addToNewConversation(ben, anna)).status).toBe(201);
  expect(await (await quotas.parley.fetch("/metrics")).text()).toContain('parley_rate_limited_total{limit="adds"} 1');
});

test("even if a stranger adds a user too often, members of conversations that the user owns or wrote in can still add the user", async () => {
  quotas = await startQuotas({ ...enabledLimits, RATE_LIMIT_ADDED_PER_10S: "3" });
  const [anna, stranger, friend, colleague] = [
    await quotas.register(),
    await quotas.register(),
    await quotas.register(),
    await quotas.register(),
  ];
  const annasConversationId = await quotas.createConversation(anna);
  expect(
    (await anna.request("POST", `/conversations/${annasConversationId}/members`, { user_id: friend.id })).status,
  ).toBe(201);
  const { id } = await addToNewConversation(colleague, anna);
  await quotas.parley.database`
    update members set written_bytes = 5 where conversation_id = ${id} and user_id = ${anna.id}`;
  const flood = await Promise.all(Array.from({ length: 10 }, () => addToNewConversation(stranger, anna)));
  expect(flood.filter(({ status }) => status === 201)).toHaveLength(2);
  expect(flood.filter(({ status }) => status === 429)).toHaveLength(8);
  expect((await addToNewConversation(friend, anna)).status).toBe(201);
  expect((await addToNewConversation(colleague, anna)).status).toBe(201);
  expect((await addToNewConversation(stranger, friend)).status).toBe(201);
});
