import { expect, test } from "bun:test";
import { createWebhookSecrets } from "../../src/modules/webhooks/secrets.ts";
import { startApp } from "../support/app.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createRestClient } from "../support/rest.ts";
import { startReceiver, verify } from "./receiver.ts";
import { createWebhook, readDelivery, waitForAttempt, waitForEnd } from "./start-webhooks.ts";

const JWT_SECRET = "one secret of at least 32 bytes, for tests";
const OTHER_SECRET = "another secret of at least 32 bytes, for tests";

test("a secret is 32 random bytes, and can only be decrypted for its webhook with the same key", () => {
  const secrets = createWebhookSecrets(JWT_SECRET);
  const secret = secrets.create();
  expect(secrets.create()).not.toBe(secret);
  expect(Buffer.from(secret.slice("whsec_".length), "base64")).toHaveLength(32);
  const [webhookId, otherId] = [Bun.randomUUIDv7(), Bun.randomUUIDv7()];
  const sealed = secrets.seal(webhookId, secret);
  expect(sealed).not.toBe(secrets.seal(webhookId, secret));
  expect(secrets.open(webhookId, sealed)).toBe(secret);
  expect(secrets.open(otherId, sealed)).toBeNull();
  expect(createWebhookSecrets(OTHER_SECRET).open(webhookId, sealed)).toBeNull();
  for (const invalid of ["", "x", secret, `${sealed.slice(0, -8)}AAAAAAA=`])
    expect(secrets.open(webhookId, invalid)).toBeNull();
});

test("after JWT_SECRET was changed, deliveries fail with an explanation until the webhook's secret is rotated", async () => {
  const database = await createTestDatabase();
  const receiver = startReceiver();
  const start = (secret: string) =>
    startApp({ database, config: { JWT_SECRET: secret, WEBHOOK_ALLOW_PRIVATE_NETWORKS: "true" } });
  const before = await start(JWT_SECRET);
  const account = await before.register();
  const { id } = await createWebhook(createRestClient(before, account), { url: receiver.url });
  await before.stop();

  const after = await start(OTHER_SECRET);
  const login = { email: account.user.email, password: "correct horse battery" };
  const response = await after.fetch("/api/v1/auth/login", { json: login });
  const rest = createRestClient(after, (await response.json()) as typeof account);
  const sendTest = async () => (await rest.request<{ id: string }>("POST", `/webhooks/${id}/test`)).body.id;
  const failing = await sendTest();
  expect((await waitForAttempt(rest, id, failing)).error).toContain("Rotate the secret");
  expect(receiver.received).toEqual([]);
  const { body } = await rest.request<{ secret: string }>("POST", `/webhooks/${id}/rotate-secret`);
  const working = await sendTest();
  expect((await waitForEnd(rest, id, working)).status).toBe("delivered");
  const [received] = receiver.received;
  expect(received && verify(body.secret, received)).toMatchObject({ type: "webhook.test" });
  expect((await readDelivery(rest, id, failing)).status).toBe("pending");
  await after.stop();
  await receiver.stop();
  await database.database.end({ timeout: 1 });
});
