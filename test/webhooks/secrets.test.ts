import { expect, test } from "bun:test";
import { createWebhookSecrets } from "../../src/modules/webhooks/secrets.ts";
import { startApp } from "../support/app.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createRestClient } from "../support/rest.ts";
import { startReceiver, verifySignature } from "./receiver.ts";
import { createWebhook, getDelivery, waitUntilAttempted, waitUntilFinished } from "./start-webhooks.ts";

const JWT_SECRET = "one secret of at least 32 bytes, for tests";
const OTHER_SECRET = "another secret of at least 32 bytes, for tests";

test("a secret is 32 random bytes, and can only be decrypted for its webhook with the same key", () => {
  const secrets = createWebhookSecrets(JWT_SECRET);
  const secret = secrets.create();
  expect(secrets.create()).not.toBe(secret);
  expect(Buffer.from(secret.slice("whsec_".length), "base64")).toHaveLength(32);
  const [webhookId, otherWebhookId] = [Bun.randomUUIDv7(), Bun.randomUUIDv7()];
  const sealedSecret = secrets.seal(webhookId, secret);
  expect(sealedSecret).not.toBe(secrets.seal(webhookId, secret));
  expect(secrets.open(webhookId, sealedSecret)).toBe(secret);
  expect(secrets.open(otherWebhookId, sealedSecret)).toBeNull();
  expect(createWebhookSecrets(OTHER_SECRET).open(webhookId, sealedSecret)).toBeNull();
  for (const invalid of ["", "x", secret, `${sealedSecret.slice(0, -8)}AAAAAAA=`])
    expect(secrets.open(webhookId, invalid)).toBeNull();
});

test("after JWT_SECRET has changed, deliveries fail with an explanation until the webhook's secret is rotated", async () => {
  const database = await createTestDatabase();
  const receiver = startReceiver();
  const startWithSecret = (secret: string) =>
    startApp({ database, config: { JWT_SECRET: secret, WEBHOOK_ALLOW_PRIVATE_NETWORKS: "true" } });
  const appBefore = await startWithSecret(JWT_SECRET);
  const account = await appBefore.register();
  const { id } = await createWebhook(createRestClient(appBefore, account), { url: receiver.url });
  await appBefore.stop();

  const appAfter = await startWithSecret(OTHER_SECRET);
  const login = { email: account.user.email, password: "correct horse battery" };
  const response = await appAfter.fetch("/api/v1/auth/login", { json: login });
  const rest = createRestClient(appAfter, (await response.json()) as typeof account);
  const sendTestEvent = async () => (await rest.request<{ id: string }>("POST", `/webhooks/${id}/test`)).body.id;
  const failingDeliveryId = await sendTestEvent();
  expect((await waitUntilAttempted(rest, id, failingDeliveryId)).error).toContain("Rotate the secret");
  expect(receiver.received).toEqual([]);
  const { body } = await rest.request<{ secret: string }>("POST", `/webhooks/${id}/rotate-secret`);
  const workingDeliveryId = await sendTestEvent();
  expect((await waitUntilFinished(rest, id, workingDeliveryId)).status).toBe("delivered");
  const [received] = receiver.received;
  expect(received && verifySignature(body.secret, received)).toMatchObject({ type: "webhook.test" });
  expect((await getDelivery(rest, id, failingDeliveryId)).status).toBe("pending");
  await appAfter.stop();
  await receiver.stop();
  await database.database.end({ timeout: 1 });
});
