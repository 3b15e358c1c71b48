import { afterEach, expect, test } from "bun:test";
import type { Rest } from "../support/rest.ts";
import { readQuotas, refusedBy, startQuotas, type WithQuotas } from "./start-quotas.ts";

let quotas: WithQuotas;
afterEach(() => quotas.stop());

const limitsOn = { RATE_LIMIT_ENABLED: "true" };
/** Adds a user to a new conversation. */
async function addTo(adder: Rest, user: Rest): Promise<{ id: string; status: number }> {
  const id = await quotas.openConversation(adder);
  const { status } = await adder.request("POST", `/conversations/${id}/members`, { user_id: user.id });
  return { id, status };
}

test("a user who reached the limit of joined conversations can't be added to another one", async () => {
  quotas = await startQuotas({ QUOTA_JOINED_CONVERSATIONS: "5", QUOTA_CONVERSATIONS: "2" });
  const [anna, ben, carl] = [await quotas.join(), await quotas.join(), await quotas.join()];
  const [first] = [await quotas.openConversation(carl)];
  const id = await quotas.openConversation(ben);
  const all = await Promise.all([
    addTo(carl, anna),
    ...Array.from({ length: 9 }, async () => addTo(await quotas.join(), anna)),
  ]);
  expect(all.filter(({ status }) => status === 201)).toHaveLength(5);
  const path = `/conversations/${id}/members`;
  const refused = await ben.refused("POST", path, { user_id: anna.id });
  expect(refused).toMatchObject(refusedBy("joined_conversations"));
  expect(refused.detail).not.toMatch(/\d/);
  expect((await ben.all(path, 50)).rows).toHaveLength(1);
  // Other users are not affected, nor are her own conversations.
  expect((await ben.request("POST", path, { user_id: carl.id })).status).toBe(201);
  expect((await anna.all("/conversations", 2)).rows).toHaveLength(5);
  await Promise.all([quotas.openConversation(anna), quotas.openConversation(anna)]);
  expect(await readQuotas(anna)).toMatchObject({
    joined_conversations: { used: 5, limit: 5 },
    conversations: { used: 2, limit: 2 },
  });
  // A user who may not add members doesn't learn it either.
  expect((await ben.refused("POST", `/conversations/${first}/members`, { user_id: anna.id })).code).toBe("not_found");

  const left = all.find(({ status }) => status === 201);
  expect((await anna.request("DELETE", `/conversations/${left?.id}/members/${anna.id}`)).status).toBe(204);
  expect((await ben.request("POST", path, { user_id: anna.id })).status).toBe(201);
  // A new role needs no capacity.
  expect((await ben.request("POST", path, { user_id: anna.id, role: "viewer" })).status).toBe(201);
});

test("a user who adds too many members is refused, and others can still add theirs", async () => {
  quotas = await startQuotas({ ...limitsOn, RATE_LIMIT_ADDS_PER_10S: "3" });
  const [anna, ben] = [await quotas.join(), await quotas.join()];
  for (let n = 0; n < 3; n += 1) expect((await addTo(anna, await quotas.join())).status).toBe(201);
  const id = await quotas.openConversation(anna);
  const refused = await anna.request("POST", `/conversations/${id}/members`, { user_id: ben.id });
  expect(refused).toMatchObject({ status: 429, body: { code: "rate_limited", violated_policies: ["burst"] } });
  expect(Number(refused.headers.get("retry-after"))).toBeWithin(1, 11);
  expect((await addTo(ben, anna)).status).toBe(201);
  expect(await (await quotas.parley.fetch("/metrics")).text()).toContain('parley_rate_limited_total{limit="adds"} 1');
});

test("a user who was flooded by strangers can still be added by users they know", async () => {
  quotas = await startQuotas({ ...limitsOn, RATE_LIMIT_ADDED_PER_10S: "3" });
  const [anna, stranger, friend, colleague] = [
    await quotas.join(),
    await quotas.join(),
    await quotas.join(),
    await quotas.join(),
  ];
  const shared = await quotas.openConversation(anna);
  expect((await anna.request("POST", `/conversations/${shared}/members`, { user_id: friend.id })).status).toBe(201);
  const { id } = await addTo(colleague, anna);
  await quotas.parley.database`
    update members set written_bytes = 5 where conversation_id = ${id} and user_id = ${anna.id}`;
  const flood = await Promise.all(Array.from({ length: 10 }, () => addTo(stranger, anna)));
  expect(flood.filter(({ status }) => status === 201)).toHaveLength(2);
  expect(flood.filter(({ status }) => status === 429)).toHaveLength(8);
  expect((await addTo(friend, anna)).status).toBe(201);
  expect((await addTo(colleague, anna)).status).toBe(201);
  expect((await addTo(stranger, friend)).status).toBe(201);
});
