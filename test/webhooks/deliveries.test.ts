import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import type { WebhookDelivery, WebhookWithSecret } from "../../src/modules/webhooks/model.ts";
import { createConversation } from "../support/conversation.ts";
import type { RestClient } from "../support/rest.ts";
import { type Receiver, startReceiver, verify } from "./receiver.ts";
import {
  createWebhook,
  type Page,
  startWebhooks,
  UNREACHABLE_URL,
  type WebhookApp,
  waitForAttempt,
  waitForEnd,
} from "./start-webhooks.ts";

let webhooks: WebhookApp;
let receiver: Receiver;
let status = 200;
beforeAll(async () => {
  webhooks = await startWebhooks();
  receiver = startReceiver(() => new Response("thank you", { status }));
});
afterEach(() => {
  status = 200;
  receiver.received.length = 0;
});
afterAll(async () => {
  await webhooks.stop();
  await receiver.stop();
});

const sendTest = (rest: RestClient, id: string) => rest.request<WebhookDelivery>("POST", `/webhooks/${id}/test`);

describe("a test event", () => {
  test("is delivered immediately, whichever events the webhook subscribes to, and is listed", async () => {
    const anna = await webhooks.register();
    const { id, secret } = await createWebhook(anna, { url: receiver.url, events: ["member.removed"] });
    const response = await sendTest(anna, id);
    expect(response.status).toBe(202);
    expect(response.body).toEqual({
      id: expect.any(String),
      type: "webhook.test",
      conversation_id: null,
      seq: null,
      status: "pending",
      attempts: 0,
      next_attempt_at: expect.any(String),
      response_status: null,
      response_body: null,
      error: null,
      duration_ms: null,
      created_at: expect.any(String),
      last_attempt_at: null,
      finished_at: null,
    });
    const ended = await waitForEnd(anna, id, response.body.id);
    expect(ended).toEqual({
      ...response.body,
      status: "delivered",
      attempts: 1,
      next_attempt_at: null,
      response_status: 200,
      response_body: "thank you",
      duration_ms: expect.any(Number),
      last_attempt_at: expect.any(String),
      finished_at: expect.any(String),
    });
    expect(receiver.received).toHaveLength(1);
    const [received] = await receiver.wait(1);
    if (!received) throw new Error("Nothing was received.");
    expect(received.id).toBe(response.body.id);
    expect(verify(secret, received)).toEqual({
      type: "webhook.test",
      timestamp: expect.any(String),
      data: { webhook_id: id },
    });
    expect((await anna.get<Page<WebhookDelivery>>(`/webhooks/${id}/deliveries`)).body.data).toEqual([ended]);
  });

  test("shows the error and the time of the next attempt", async () => {
    status = 500;
    const anna = await webhooks.register();
    const { id } = await createWebhook(anna, { url: receiver.url });
    const { body: delivery } = await sendTest(anna, id);
    await receiver.wait(1);
    const attempted = await waitForAttempt(anna, id, delivery.id);
    expect(attempted).toMatchObject({
      status: "pending",
      attempts: 1,
      response_status: 500,
      response_body: "thank you",
    });
    expect(attempted.error).toContain("500");
    expect(Date.parse(attempted.next_attempt_at ?? "")).toBeGreaterThan(Date.now() + 1_000);
    expect(attempted.finished_at).toBeNull();
  });

  test("is signed with the new and the previous secret after a rotation, and with only the new secret after a day", async () => {
    const anna = await webhooks.register();
    const { id, secret: first } = await createWebhook(anna, { url: receiver.url });
    const rotate = async () =>
      (await anna.request<WebhookWithSecret>("POST", `/webhooks/${id}/rotate-secret`)).body.secret;
    const receive = async () => {
      receiver.received.length = 0;
      await sendTest(anna, id);
      const [received] = await receiver.wait(1);
      if (!received) throw new Error("Nothing was received.");
      return received;
    };
    const second = await rotate();
    const both = await receive();
    for (const secret of [first, second]) expect(verify(secret, both)).toBeDefined();
    const third = await rotate();
    const later = await receive();
    for (const secret of [second, third]) expect(verify(secret, later)).toBeDefined();
    expect(() => verify(first, later)).toThrow();
    await webhooks.parley.database`update webhooks set previous_secret_until = now() where id = ${id}`;
    const last = await receive();
    expect(verify(third, last)).toBeDefined();
    expect(() => verify(second, last)).toThrow();
  });

  test("is refused while the webhook is disabled", async () => {
    const anna = await webhooks.register();
    const { id } = await createWebhook(anna, { url: receiver.url });
    await anna.request("PATCH", `/webhooks/${id}`, { disabled: true });
    expect(await anna.requestProblem("POST", `/webhooks/${id}/test`)).toMatchObject({ status: 409, code: "conflict" });
    await anna.request("PATCH", `/webhooks/${id}`, { disabled: false });
    expect((await waitForEnd(anna, id, (await sendTest(anna, id)).body.id)).status).toBe("delivered");
    expect(receiver.received).toHaveLength(1);
  });
});

describe("a delivery", () => {
  test("is sent to the new URL from the next attempt on if the webhook's URL is changed", async () => {
    const anna = await webhooks.register();
    const { id } = await createWebhook(anna, { url: "http://127.0.0.1:1/nobody" });
    const { body: delivery } = await sendTest(anna, id);
    await waitForAttempt(anna, id, delivery.id);
    await anna.request("PATCH", `/webhooks/${id}`, { url: receiver.url });
    expect((await anna.request("POST", `/webhooks/${id}/deliveries/${delivery.id}/redeliver`)).status).toBe(202);
    expect(await waitForEnd(anna, id, delivery.id)).toMatchObject({ status: "delivered", attempts: 1 });
    expect(receiver.received.map((received) => received.id)).toEqual([delivery.id]);
  });

  test("can be redelivered on demand, with the same id and the current state", async () => {
    const anna = await webhooks.register();
    const { id: webhookId } = await createWebhook(anna, { url: receiver.url });
    const { id } = await createConversation(webhooks.parley, anna.account);
    const { body } = await anna.request<{ message: { id: string; seq: number } }>(
      "POST",
      `/conversations/${id}/messages`,
      {
        content: "first",
        reply: false,
      },
    );
    const [first] = await receiver.wait(1);
    if (!first) throw new Error("Nothing was received.");
    await waitForEnd(anna, webhookId, first.id);
    await anna.request("PATCH", `/conversations/${id}/messages/${body.message.id}`, { content: "second" });
    const redelivery = await anna.request<WebhookDelivery>(
      "POST",
      `/webhooks/${webhookId}/deliveries/${first.id}/redeliver`,
    );
    expect(redelivery.body).toMatchObject({
      id: first.id,
      type: "message.created",
      conversation_id: id,
      seq: body.message.seq,
      status: "pending",
      attempts: 0,
      finished_at: null,
    });
    const [, second] = await receiver.wait(2);
    expect(second?.id).toBe(first.id);
    expect(second?.json).toMatchObject({ type: "message.created", seq: body.message.seq, data: { content: "second" } });
    expect(await waitForEnd(anna, webhookId, first.id)).toMatchObject({ status: "delivered", attempts: 1 });
    await anna.request("PATCH", `/webhooks/${webhookId}`, { disabled: true });
    const path = `/webhooks/${webhookId}/deliveries/${first.id}/redeliver`;
    expect((await anna.requestProblem("POST", path)).code).toBe("conflict");
  });

  test("fails if it is pending when its webhook is disabled", async () => {
    const anna = await webhooks.register();
    const { id } = await createWebhook(anna, { url: "http://127.0.0.1:1/nobody" });
    const { body: delivery } = await sendTest(anna, id);
    await anna.request("PATCH", `/webhooks/${id}`, { disabled: true });
    const ended = await waitForEnd(anna, id, delivery.id);
    expect(ended).toMatchObject({ status: "failed", next_attempt_at: null, finished_at: expect.any(String) });
    expect(ended.error).not.toBeNull();
  });
});

test("deliveries are listed newest first in pages, and can be filtered by status", async () => {
  const anna = await webhooks.register();
  const { id } = await createWebhook(anna, { url: UNREACHABLE_URL });
  await anna.request("PATCH", `/webhooks/${id}`, { disabled: true });
  const all = Array.from({ length: 9 }, (_, n) => ({ id: Bun.randomUUIDv7(), status: n % 3 ? "delivered" : "failed" }));
  for (const delivery of all)
    await webhooks.parley.database`
      insert into webhook_deliveries (id, webhook_id, type, occurred_at, status, finished_at)
      values (${delivery.id}, ${id}, 'message.created', now(), ${delivery.status}, now())`;
  const path = `/webhooks/${id}/deliveries`;
  const newestFirst = all.toReversed().map((delivery) => delivery.id);
  const { rows, pages } = await anna.listAll<WebhookDelivery>(path, 4);
  expect(rows.map((row) => row.id)).toEqual(newestFirst);
  expect(pages).toEqual([4, 4, 1]);
  for (const filter of ["failed", "delivered", "pending"]) {
    const filtered = await anna.listAll<WebhookDelivery>(`${path}?status=${filter}`, 2);
    const expected = all.filter((delivery) => delivery.status === filter).toReversed();
    expect(filtered.rows.map((row) => row.id)).toEqual(expected.map((delivery) => delivery.id));
  }
  expect((await anna.requestProblem("GET", `${path}?status=lost`)).status).toBe(422);
  expect((await anna.requestProblem("GET", `${path}?cursor=nonsense`)).code).toBe("bad_cursor");
  const missing = `${path}/${Bun.randomUUIDv7()}`;
  expect((await anna.requestProblem("GET", missing)).code).toBe("not_found");
  expect((await anna.requestProblem("POST", `${missing}/redeliver`)).code).toBe("not_found");
});
