import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Account } from "../support/client.ts";
import { createConversation } from "../support/conversation.ts";
import { startReceiver, verifySignature } from "../webhooks/receiver.ts";
import { type Backend, backends } from "./backends.ts";
import { createInstallation, type Installation, TEST_TIMEOUT_MS } from "./installation.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

const ROUNDS = 3;
const SEND_DURATION_MS = 400;

describe.each(backends)("webhooks after kill -9 ($name)", ({ openBackend }) => {
  let backend: Backend;
  let installation: Installation;
  beforeAll(async () => {
    backend = await openBackend();
    installation = await createInstallation({ env: { ...backend.env, WEBHOOK_ALLOW_PRIVATE_NETWORKS: "true" } });
  });
  afterAll(async () => {
    await installation?.remove();
    await backend?.close();
  });

  test("deliver every acknowledged message, and all deliveries of a message have the same webhook-id", async () => {
    const receiver = startReceiver();
    let parley = await installation.start();
    const account: Account = await parley.register();
    const options = { token: account.access_token };
    const webhookResponse = await parley.fetch("/api/v1/webhooks", {
      ...options,
      json: { url: receiver.url, events: ["message.created"] },
    });
    const { secret } = (await webhookResponse.json()) as { secret: string };
    const { id } = await createConversation(parley, account);
    const ackedIds = new Set<string>();

    for (let round = 0; round < ROUNDS; round += 1) {
      const deadlineMs = performance.now() + SEND_DURATION_MS;
      const senders = [1, 2, 3, 4].map(async () => {
        while (performance.now() < deadlineMs) {
          const response = await parley.fetch(`/api/v1/conversations/${id}/messages`, {
            ...options,
            json: { content: "x" },
          });
          if (response.status === 201)
            ackedIds.add(((await response.json()) as { message: { id: string } }).message.id);
        }
      });
      await Promise.allSettled(senders);
      await parley.kill();
      parley = await installation.start();
    }

    const isDelivered = () => ackedIds.isSubsetOf(new Set(receiver.received.map(({ json }) => String(json.data.id))));
    // Deliveries are delayed until the killed instance's lease expires.
    for (let attempts = 0; attempts < 300 && !isDelivered(); attempts += 1) await Bun.sleep(100);
    expect(ackedIds.size).toBeGreaterThan(20);
    expect(isDelivered()).toBe(true);
    const deliveriesByMessage = Map.groupBy(receiver.received, ({ json }) => String(json.data.id));
    for (const [, deliveries] of deliveriesByMessage)
      expect(new Set(deliveries.map((delivery) => delivery.id)).size).toBe(1);
    for (const delivery of receiver.received) verifySignature(secret, delivery);
    expect((await parley.stop()).code).toBe(0);
    await receiver.stop();
  });
});
