import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import type { WebhookDelivery, WebhookWithSecret } from "../../src/modules/webhooks/model.ts";
import { createConversation } from "../support/conversation.ts";
import type { RestClient } from "../support/rest.ts";
import { type Receiver, startReceiver, verifySignature } from "./receiver.ts";
import {
  createWebhook,
  type Page,
  startWebhooks,
  UNREACHABLE_URL,
  type WebhookApp,
  waitUntilAttempted,
  waitUntilFinished,
} from "./start-webhooks.ts";

let webhooks: WebhookApp;
let receiver: Receiver;
let responseStatus = 200;
beforeAll(async () => {
  webhooks = await startWebhooks();
  receiver = startReceiver(() => new Response("thank you", { status: responseStatus }));
});
afterEach(() => {
  responseStatus = 200;
  receiver.received.length = 0;
});
afterAll(async () => {
  await webhooks.stop();
  await receiver.stop();
});

const sendTestEvent = (rest: RestClient, id: string) => rest.request<WebhookDelivery>("POST", `/webhooks/${id}/test`);

describe("a test event", () => {
  test("is delivered immediately, whichever events the webhook subscribes to, and is listed", async () => {
    const anna = await webhooks.register();
    const { id, secret } = await createWebhook(anna, { url: receiver.url, events: ["member.removed"] });
    const response = await sendTestEvent(anna, id);
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
    const finishedDelivery = await waitUntilFinished(anna, id, response.body.id);
    expect(finishedDelivery).toEqual({
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
    const [received] = await receiver.waitForRequests(1);
    if (!received) throw new Error("Nothing was received.");
    expect(received.id).toBe(response.body.id);
    expect(verifySignature(secret, received)).toEqual({
      type: "webhook.test",
      timestamp: expect.any(String),
      data: { webhook_id: id },
    });
    expect((await anna.get<Page<WebhookDelivery>>(`/webhooks/${id}/deliveries`)).body.data).toEqual([finishedDelivery]);
  });

  test("that can't be delivered shows the error and the time of the next attempt", async () => {
    responseStatus = 500;
    const anna = await webhooks.register();
    const { id } = await createWebhook(anna, { url: receiver.url });
    const { body: delivery } = await sendTestEvent(anna, id);
    await receiver.waitForRequests(1);
    const attemptedDelivery = await waitUntilAttempted(anna, id, delivery.id);
    expect(attemptedDelivery).toMatchObject({
      status: "pending",
      attempts: 1,
      response_status: 500,
      response_body: "thank you",
    });
    expect(attemptedDelivery.error).toContain("500");
    expect(Date.parse(attemptedDelivery.next_attempt_at ?? "")).toBeGreaterThan(Date.now() + 1_000);
    expect(attemptedDelivery.finished_at).toBeNull();
  });

  test("is signed with the new and the previous secret after a rotation, and with only the new secret after a day", async () => {
    const anna = await webhooks.register();
    const { id, secret: firstSecret } = await createWebhook(anna, { url: receiver.url });
    const rotateSecret = async () =>
      (await anna.request<WebhookWithSecret>("POST", `/webhooks/${id}/rotate-secret`)).body.secret;
    const sendAndReceive = async () => {
      receiver.received.length = 0;
      await sendTestEvent(anna, id);
      const [received] = await receiver.waitForRequests(1);
      if (!received) throw new Error("Nothing was received.");
      return received;
    };
    const secondSecret = await rotateSecret();
    const firstRequest = await sendAndReceive();
    for (const secret of [firstSecret, secondSecret]) expect(verifySignature(secret, firstRequest)).toBeDefined();
    const thirdSecret = await rotateSecret();
    const secondRequest = await sendAndReceive();
    for (const secret of [secondSecret, thirdSecret]) expect(verifySignature(secret, secondRequest)).toBeDefined();
    expect(() => verifySignature(firstSecret, secondRequest)).toThrow();
    await webhooks.parley.database`update webhooks set previous_secret_until = now() where id = ${id}`;
    const thirdRequest = await sendAndReceive();
    expect(verifySignature(thirdSecret, thirdRequest)).toBeDefined();
    expect(() => verifySignature(secondSecret, thirdRequest)).toThrow();
  });

  test("is rejected while the webhook is disabled", async () => {
    const anna = await webhooks.register();
    const { id } = await createWebhook(anna, { url: receiver.url });
    await anna.request("PATCH", `/webhooks/${id}`, { disabled: true });
    expect(await anna.requestProblem("POST", `/webhooks/${id}/test`)).toMatchObject({ status: 409, code: "conflict" });
    await anna.request("PATCH", `/webhooks/${id}`, { disabled: false });
    expect((await waitUntilFinished(anna, id, (await sendTestEvent(anna, id)).body.id)).status).toBe("delivered");
    expect(receiver.received).toHaveLength(1);
  });
});

describe("a delivery", () => {
  test("is sent to the webhook's new URL at the next attempt if the URL has changed", async () => {
    const anna = await webhooks.register();
    const { id } = await createWebhook(anna, { url: "http://127.0.0.1:1/nobody" });
    const { body: delivery } = await sendTestEvent(anna, id);
    await waitUntilAttempted(anna, id, delivery.id);
    await anna.request("PATCH", `/webhooks/${id}`, { url: receiver.url });
    expect((await anna.request("POST", `/webhooks/${id}/deliveries/${delivery.id}/redeliver`)).status).toBe(202);
    expect(await waitUntilFinished(anna, id, delivery.id)).toMatchObject({ status: "delivered", attempts: 1 });
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
    const [firstRequest] = await receiver.waitForRequests(1);
    if (!firstRequest) throw new Error("Nothing was received.");
    await waitUntilFinished(anna, webhookId, firstRequest.id);
    await anna.request("PATCH", `/conversations/${id}/messages/${body.message.id}`, { content: "second" });
    const redelivery = await anna.request<WebhookDelivery>(
      "POST",
      `/webhooks/${webhookId}/deliveries/${firstRequest.id}/redeliver`,
    );
    expect(redelivery.body).toMatchObject({
      id: firstRequest.id,
      type: "message.created",
      conversation_id: id,
      seq: body.message.seq,
      status: "pending",
      attempts: 0,
      finished_at: null,
    });
    const [, secondRequest] = await receiver.waitForRequests(2);
    expect(secondRequest?.id).toBe(firstRequest.id);
    expect(secondRequest?.json).toMatchObject({
      type: "message.created",
      seq: body.message.seq,
      data: { content: "second" },
    });
    expect(await waitUntilFinished(anna, webhookId, firstRequest.id)).toMatchObject({
      status: "delivered",
      attempts: 1,
    });
    await anna.request("PATCH", `/webhooks/${webhookId}`, { disabled: true });
    const path = `/webhooks/${webhookId}/deliveries/${firstRequest.id}/redeliver`;
    expect((await anna.requestProblem("POST", path)).code).toBe("conflict");
  });

  test("fails if it is pending when its webhook is disabled", async () => {
    const anna = await webhooks.register();
    const { id } = await createWebhook(anna, { url: "http://127.0.0.1:1/nobody" });
    const { body: delivery } = await sendTestEvent(anna, id);
    await anna.request("PATCH", `/webhooks/${id}`, { disabled: true });
    const failedDelivery = await waitUntilFinished(anna, id, delivery.id);
    expect(failedDelivery).toMatchObject({ status: "failed", next_attempt_at: null, finished_at: expect.any(String) });
    expect(failedDelivery.error).not.toBeNull();
  });
});

test("deliveries are listed newest first in pages, and can be filtered by status", async () => {
  const anna = await webhooks.register();
  const { id } = await createWebhook(anna, { url: UNREACHABLE_URL });
  await anna.request("PATCH", `/webhooks/${id}`, { disabled: true });
  const deliveries = Array.from({ length: 9 }, (_, n) => ({
    id: Bun.randomUUIDv7(),
    status: n % 3 ? "delivered" : "failed",
  }));
  for (const delivery of deliveries)
    await webhooks.parley.database`
      insert into webhook_deliveries (id, webhook_id, type, occurred_at, status, finished_at)
      values (${delivery.id}, ${id}, 'message.created', now(), ${delivery.status}, now())`;
  const path = `/webhooks/${id}/deliveries`;
  const newestFirst = deliveries.toReversed().map((delivery) => delivery.id);
  const { rows, pages } = await anna.listAll<WebhookDelivery>(path, 4);
  expect(rows.map((row) => row.id)).toEqual(newestFirst);
  expect(pages).toEqual([4, 4, 1]);
  for (const filter of ["failed", "delivered", "pending"]) {
    const filtered = await anna.listAll<WebhookDelivery>(`${path}?status=${filter}`, 2);
    const expected = deliveries.filter((delivery) => delivery.status === filter).toReversed();
    expect(filtered.rows.map((row) => row.id)).toEqual(expected.map((delivery) => delivery.id));
  }
  expect((await anna.requestProblem("GET", `${path}?status=lost`)).status).toBe(422);
  expect((await anna.requestProblem("GET", `${path}?cursor=nonsense`)).code).toBe("bad_cursor");
  const missingPath = `${path}/${Bun.randomUUIDv7()}`;
  expect((await anna.requestProblem("GET", missingPath)).code).toBe("not_found");
  expect((await anna.requestProblem("POST", `${missingPath}/redeliver`)).code).toBe("not_found");
});
