import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import type { Database } from "../../src/db/client.ts";
import { createConversation } from "../support/conversation.ts";
import type { RestClient } from "../support/rest.ts";
import { type Receiver, startReceiver, verifySignature } from "./receiver.ts";
import { createWebhook, getWebhook, startWebhooks, type WebhookApp, waitUntilFinished } from "./start-webhooks.ts";

let app: WebhookApp;
let database: Database;
const receivers: Receiver[] = [];
beforeAll(async () => {
  app = await startWebhooks({ WEBHOOK_ALLOW_PRIVATE_NETWORKS: "true" });
  database = app.parley.database;
});
afterEach(async () => {
  await database`delete from webhooks`;
  await Promise.all(receivers.splice(0).map(({ stop }) => stop()));
});
afterAll(() => app.stop());

const startTestReceiver = (...args: Parameters<typeof startReceiver>): Receiver => {
  const receiver = startReceiver(...args);
  receivers.push(receiver);
  return receiver;
};

const sendMessage = async (rest: RestClient, conversationId: string, content: string): Promise<string> => {
  const { status, body } = await rest.request<{ message: { id: string } }>(
    "POST",
    `/conversations/${conversationId}/messages`,
    { content },
  );
  expect(status).toBe(201);
  return body.message.id;
};

/** Time within which an unwanted request would arrive. */
const QUIET_MS = 900;

/** Makes all pending deliveries due. */
const makeDeliveriesDue = () =>
  database`update webhook_deliveries set next_attempt_at = now() where status = 'pending'`;

async function waitFor<T>(readValue: () => Promise<T>, isDone: (value: T) => boolean): Promise<T> {
  for (let attempts = 0; attempts < 500; attempts += 1) {
    const value = await readValue();
    if (isDone(value)) return value;
    await Bun.sleep(10);
  }
  throw new Error("Timed out.");
}

const listDeliveries = (webhookId: string) =>
  database<{ id: string; status: string; attempts: number; error: string | null; next_attempt_at: Date | null }[]>`
    select id, status, attempts, error, next_attempt_at from webhook_deliveries
    where webhook_id = ${webhookId} order by n`;

describe("a delivery", () => {
  test("is signed as Standard Webhooks defines, and contains the same event as sockets and feeds", async () => {
    const receiver = startTestReceiver();
    const rest = await app.register();
    const { secret, id: webhookId } = await createWebhook(rest, { url: receiver.url });
    const conversation = await createConversation(app.parley, rest.account);
    await sendMessage(rest, conversation.id, "Grüße 👋");
    const [received] = await receiver.waitForRequests(1);
    if (!received) throw new Error("Nothing was received.");

    expect(verifySignature(secret, received)).toEqual(received.json);
    expect(() => verifySignature(secret, { ...received, body: received.body.replace("Grüße", "Grusse") })).toThrow();
    expect(received.headers.get("content-type")).toBe("application/json");
    const events = await rest.get<{ data: Record<string, unknown>[] }>(
      `/conversations/${conversation.id}/events?after_seq=0`,
    );
    const event = events.body.data.find(({ type }) => type === "message.created");
    expect(received.json).toEqual({
      type: "message.created",
      timestamp: event?.at as string,
      conversation_id: conversation.id,
      seq: event?.seq as number,
      data: event?.data as Record<string, unknown>,
    });
    const delivery = await waitUntilFinished(rest, webhookId, received.id);
    expect(delivery).toMatchObject({ status: "delivered", attempts: 1, response_status: 204, error: null });
  });

  test("is signed with both secrets during a rotation", async () => {
    const receiver = startTestReceiver();
    const rest = await app.register();
    const { secret, id } = await createWebhook(rest, { url: receiver.url });
    const rotationResponse = await rest.request<{ secret: string }>("POST", `/webhooks/${id}/rotate-secret`);
    const conversation = await createConversation(app.parley, rest.account);
    await sendMessage(rest, conversation.id, "One");
    const [firstRequest] = await receiver.waitForRequests(1);
    verifySignature(secret, firstRequest as never);
    verifySignature(rotationResponse.body.secret, firstRequest as never);
    await database`update webhooks set previous_secret_until = now() where id = ${id}`;
    await sendMessage(rest, conversation.id, "Two");
    const [, secondRequest] = await receiver.waitForRequests(2);
    verifySignature(rotationResponse.body.secret, secondRequest as never);
    expect(() => verifySignature(secret, secondRequest as never)).toThrow();
  });

  test("stays below 20 kB, because longer content is truncated between characters", async () => {
    const receiver = startTestReceiver();
    const rest = await app.register();
    const { secret } = await createWebhook(rest, { url: receiver.url });
    const conversation = await createConversation(app.parley, rest.account);
    const content = `"${"👩‍🚀é".repeat(4_000)}`;
    await sendMessage(rest, conversation.id, content);
    const [received] = await receiver.waitForRequests(1);
    if (!received) throw new Error("Nothing was received.");
    verifySignature(secret, received);
    expect(Buffer.byteLength(received.body)).toBeLessThan(20_000);
    expect(Buffer.byteLength(received.body)).toBeGreaterThan(19_900);
    expect(received.json.data.content_truncated).toBe(true);
    expect(content).toStartWith(received.json.data.content as string);
    expect((received.json.data.content as string).isWellFormed()).toBe(true);
  });

  test("is sent for each subscribed event type, in the conversation's order", async () => {
    const receiver = startTestReceiver();
    const rest = await app.register();
    const otherUser = await app.register();
    await createWebhook(rest, { url: receiver.url, events: ["*"] });
    const conversation = await createConversation(app.parley, rest.account);
    const messageId = await sendMessage(rest, conversation.id, "First");
    await rest.request("POST", `/conversations/${conversation.id}/members`, { user_id: otherUser.id });
    await rest.request("PATCH", `/conversations/${conversation.id}/messages/${messageId}`, { content: "Second" });
    await rest.request("PATCH", `/conversations/${conversation.id}`, { title: "Renamed" });
    await rest.request("DELETE", `/conversations/${conversation.id}/members/${otherUser.id}`);
    await rest.request("DELETE", `/conversations/${conversation.id}/messages/${messageId}`);
    await rest.request("DELETE", `/conversations/${conversation.id}`);
    const received = await receiver.waitForRequests(7);
    const seqs = received.map(({ json }) => json.seq ?? 0);
    expect(seqs).toEqual([...seqs].sort((first, second) => first - second));
    expect(receiver.listTypes()).toEqual([
      "message.created",
      "member.added",
      "message.updated",
      "conversation.updated",
      "member.removed",
      "message.deleted",
      "conversation.deleted",
    ]);
    expect(received.at(-1)?.json.data).toEqual({ id: conversation.id });
  });
});

describe("recipients", () => {
  test("are administrators for every conversation, and users for conversations they are members of", async () => {
    const [adminReceiver, memberReceiver, outsiderReceiver] = [
      startTestReceiver(),
      startTestReceiver(),
      startTestReceiver(),
    ];
    const [admin, owner, member, outsider] = [
      await app.registerAdmin(),
      await app.register(),
      await app.register(),
      await app.register(),
    ];
    const conversation = await createConversation(app.parley, owner.account, [member.account]);
    await createWebhook(admin, { url: adminReceiver.url });
    await createWebhook(member, { url: memberReceiver.url });
    await createWebhook(outsider, { url: outsiderReceiver.url });
    await sendMessage(owner, conversation.id, "One");
    await Promise.all([adminReceiver.waitForRequests(1), memberReceiver.waitForRequests(1)]);
    await owner.request("DELETE", `/conversations/${conversation.id}/members/${member.id}`);
    await sendMessage(owner, conversation.id, "Two");
    await adminReceiver.waitForRequests(2);
    await Bun.sleep(QUIET_MS);
    expect(adminReceiver.received).toHaveLength(2);
    expect(memberReceiver.received).toHaveLength(1);
    expect(outsiderReceiver.received).toHaveLength(0);
  });

  test("who were removed or disabled receive no retries", async () => {
    const receiver = startTestReceiver(() => new Response(null, { status: 500 }));
    const [owner, member, disabledMember] = [await app.register(), await app.register(), await app.register()];
    const conversation = await createConversation(app.parley, owner.account, [member.account, disabledMember.account]);
    const webhook = await createWebhook(member, { url: receiver.url });
    const otherWebhook = await createWebhook(disabledMember, { url: receiver.url });
    await sendMessage(owner, conversation.id, "One");
    await receiver.waitForRequests(2);
    await waitFor(
      () => listDeliveries(webhook.id),
      ([first]) => first?.attempts === 1,
    );
    await owner.request("DELETE", `/conversations/${conversation.id}/members/${member.id}`);
    await database`update users set disabled_at = now() where id = ${disabledMember.id}`;
    await makeDeliveriesDue();
    for (const { id } of [webhook, otherWebhook]) {
      const [delivery] = await waitFor(
        () => listDeliveries(id),
        ([first]) => first?.status === "failed",
      );
      expect(delivery).toMatchObject({ attempts: 1, error: expect.stringContaining("no longer has access") });
    }
    expect(receiver.received).toHaveLength(2);
  });
});

describe("a receiver", () => {
  test("that returns an error receives a retry 5 seconds later with the same webhook-id, without delaying later events", async () => {
    const receiver = startTestReceiver(
      (_received, count) => new Response(count === 1 ? "broken" : "fine", { status: count === 1 ? 500 : 200 }),
    );
    const rest = await app.register();
    const { id, secret } = await createWebhook(rest, { url: receiver.url });
    const conversation = await createConversation(app.parley, rest.account);
    const sentAtMs = performance.now();
    await sendMessage(rest, conversation.id, "One");
    await receiver.waitForRequests(1);
    await sendMessage(rest, conversation.id, "Two");
    const received = await receiver.waitForRequests(3);
    expect(received.map(({ json }) => json.data.content)).toEqual(["One", "Two", "One"]);
    const [firstRequest, secondRequest, thirdRequest] = received;
    expect((secondRequest?.atMs ?? 0) - sentAtMs).toBeLessThan(2_000);
    expect((thirdRequest?.atMs ?? 0) - (firstRequest?.atMs ?? 0)).toBeWithin(5_000, 7_500);
    expect(thirdRequest?.id).toBe(firstRequest?.id as string);
    verifySignature(secret, thirdRequest as never);
    const delivery = await waitUntilFinished(rest, id, firstRequest?.id as string);
    expect(delivery).toMatchObject({ status: "delivered", attempts: 2, response_status: 200, response_body: "fine" });
  }, 20_000);

  test("can't redirect a delivery", async () => {
    const target = startTestReceiver();
    const receiver = startTestReceiver(() => new Response(null, { status: 302, headers: { location: target.url } }));
    const rest = await app.register();
    const { id } = await createWebhook(rest, { url: receiver.url });
    const conversation = await createConversation(app.parley, rest.account);
    await sendMessage(rest, conversation.id, "One");
    const [delivery] = await waitFor(
      () => listDeliveries(id),
      ([first]) => first?.attempts === 1,
    );
    expect(delivery).toMatchObject({ status: "pending", error: expect.stringContaining("redirects are not followed") });
    expect(target.received).toHaveLength(0);
  });

  test("that returns 429 receives neither a retry nor another delivery before Retry-After has passed", async () => {
    const receiver = startTestReceiver(() => new Response(null, { status: 429, headers: { "retry-after": "3600" } }));
    const rest = await app.register();
    const { id } = await createWebhook(rest, { url: receiver.url });
    const conversation = await createConversation(app.parley, rest.account);
    await sendMessage(rest, conversation.id, "One");
    const [delivery] = await waitFor(
      () => listDeliveries(id),
      ([first]) => first?.attempts === 1,
    );
    expect(Number(delivery?.next_attempt_at) - Date.now()).toBeWithin(3_590_000, 3_970_000);
    await sendMessage(rest, conversation.id, "Two");
    await Bun.sleep(QUIET_MS);
    expect(receiver.received).toHaveLength(1);
    expect((await listDeliveries(id)).map(({ status }) => status)).toEqual(["pending", "pending"]);
  });

  test("receives no content from a conversation that was deleted before the retry", async () => {
    const receiver = startTestReceiver(() => new Response(null, { status: 503 }));
    const rest = await app.register();
    const { id } = await createWebhook(rest, { url: receiver.url });
    const conversation = await createConversation(app.parley, rest.account);
    const messageId = await sendMessage(rest, conversation.id, "A secret");
    await waitFor(
      () => listDeliveries(id),
      ([first]) => first?.attempts === 1,
    );
    await rest.request("DELETE", `/conversations/${conversation.id}`);
    await makeDeliveriesDue();
    const [, retry] = await receiver.waitForRequests(2);
    expect(retry?.json).toMatchObject({ type: "message.created", data: { id: messageId } });
    expect(retry?.body).not.toContain("A secret");
  });

  test("that returns 503 receives no retry before Retry-After has passed, even if that is more than a day", async () => {
    const receiver = startTestReceiver(() => new Response(null, { status: 503, headers: { "retry-after": "172800" } }));
    const rest = await app.register();
    const { id } = await createWebhook(rest, { url: receiver.url });
    const conversation = await createConversation(app.parley, rest.account);
    await sendMessage(rest, conversation.id, "One");
    const [delivery] = await waitFor(
      () => listDeliveries(id),
      ([first]) => first?.attempts === 1,
    );
    expect(Number(delivery?.next_attempt_at) - Date.now()).toBeWithin(172_790_000, 190_100_000);
  });

  test("that returns 410 receives no retry, and its webhook is disabled", async () => {
    const otherReceiver = startTestReceiver();
    const receiver = startTestReceiver(() => new Response("gone", { status: 410 }));
    const rest = await app.register();
    const admin = await app.registerAdmin();
    const { id } = await createWebhook(rest, { url: receiver.url });
    await createWebhook(rest, { url: otherReceiver.url, events: ["webhook.disabled"] });
    const conversation = await createConversation(app.parley, rest.account);
    await database`
      insert into webhook_deliveries (id, webhook_id, type, user_id, data, occurred_at, next_attempt_at)
      select gen_random_uuid(), ${id}, 'webhook.test', ${rest.id}, '{}', now(), now() + interval '1 hour'
      from generate_series(1, 2500)`;
    await sendMessage(rest, conversation.id, "One");
    await receiver.waitForRequests(1);
    await waitFor(
      () => getWebhook(rest, id),
      ({ disabled }) => disabled,
    );
    expect(await getWebhook(rest, id)).toMatchObject({ disabled_reason: "gone" });
    await waitFor(
      () => listDeliveries(id),
      (rows) => rows.every(({ status }) => status === "failed"),
    );
    const [notification] = await otherReceiver.waitForRequests(1);
    expect(notification?.json).toMatchObject({ type: "webhook.disabled", data: { webhook_id: id, reason: "gone" } });
    const audit = await admin.get<{ data: Record<string, unknown>[] }>(
      `/audit?target_id=${id}&action=webhook.disabled`,
    );
    expect(audit.body.data).toMatchObject([
      { actor_id: null, target: { type: "webhook", id }, details: { reason: "gone" } },
    ]);
    await sendMessage(rest, conversation.id, "Two");
    await Bun.sleep(QUIET_MS);
    expect(receiver.received).toHaveLength(1);
  });

  test("that fails ten times has its webhook disabled", async () => {
    const receiver = startTestReceiver(() => new Response(null, { status: 503 }));
    const rest = await app.register();
    const { id } = await createWebhook(rest, { url: receiver.url });
    const conversation = await createConversation(app.parley, rest.account);
    await sendMessage(rest, conversation.id, "One");
    for (let attempts = 1; attempts < 10; attempts += 1) {
      const [delivery] = await waitFor(
        () => listDeliveries(id),
        ([first]) => first?.attempts === attempts,
      );
      expect(delivery?.status).toBe("pending");
      await makeDeliveriesDue();
    }
    await waitFor(
      () => getWebhook(rest, id),
      ({ disabled }) => disabled,
    );
    expect(await getWebhook(rest, id)).toMatchObject({ disabled_reason: "exhausted" });
    expect(await listDeliveries(id)).toMatchObject([{ status: "failed", attempts: 10 }]);
    expect(new Set(receiver.received.map((received) => received.id)).size).toBe(1);
  }, 20_000);

  test("that is slow doesn't delay deliveries to other receivers", async () => {
    const slowReceiver = startTestReceiver(async () => {
      await Bun.sleep(3_000);
      return new Response();
    });
    const quickReceiver = startTestReceiver();
    const rest = await app.register();
    await createWebhook(rest, { url: slowReceiver.url });
    await createWebhook(rest, { url: quickReceiver.url });
    const conversations = await Promise.all(
      Array.from({ length: 30 }, () => createConversation(app.parley, rest.account)),
    );
    const startedAtMs = performance.now();
    await Promise.all(conversations.map(({ id }) => sendMessage(rest, id, "Hello")));
    await quickReceiver.waitForRequests(30);
    expect(performance.now() - startedAtMs).toBeLessThan(2_500);
    // A receiver gets at most 16 concurrent requests.
    expect(slowReceiver.received.length).toBeLessThanOrEqual(16);
  });
});

describe("system events", () => {
  test("are sent to administrators with the user's current state, or with only the id if the user was deleted", async () => {
    const receiver = startTestReceiver();
    const admin = await app.registerAdmin();
    await createWebhook(admin, { url: receiver.url, events: ["user.created", "user.deleted"] });
    const created = await admin.request<{ id: string; email: string }>("POST", "/users", {
      email: "ada@example.com",
      password: "correct horse battery",
      display_name: "Ada",
    });
    expect(created.status).toBe(201);
    const [firstRequest] = await receiver.waitForRequests(1);
    expect(firstRequest?.json).toMatchObject({
      type: "user.created",
      data: { id: created.body.id, email: "ada@example.com", display_name: "Ada", role: "user", disabled: false },
    });
    expect(firstRequest?.json.conversation_id).toBeUndefined();
    expect((await admin.request("DELETE", `/users/${created.body.id}`)).status).toBe(204);
    const [, secondRequest] = await receiver.waitForRequests(2);
    expect(secondRequest?.json).toMatchObject({ type: "user.deleted", data: { id: created.body.id } });
  });
});
