import { expect, test } from "bun:test";
import { createWebhookSecrets } from "../../src/modules/webhooks/secrets.ts";
import { startApp } from "../support/app.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createRest } from "../support/rest.ts";
import { startReceiver, verify } from "./receiver.ts";
import { createWebhook, readDelivery, waitForAttempt, waitForEnd } from "./start-webhooks.ts";

const JWT_SECRET = "one secret of at least 32 bytes, for tests";
const OTHER_SECRET = "another secret of at least 32 bytes, for tests";

test("a secret is 32 random bytes, and is decrypted only for its webhook with its key", () => {
  const secrets = createWebhookSecrets(JWT_SECRET);
  const secret = secrets.create();
  expect(secrets.create()).not.toBe(secret);
  expect(Buffer.from(secret.slice("whsec_".length), "base64")).toHaveLength(32);
  const [own, other] = [Bun.randomUUIDv7(), Bun.randomUUIDv7()];
  const sealed = secrets.seal(own, secret);
  expect(sealed).not.toBe(secrets.seal(own, secret));
  expect(secrets.open(own, sealed)).toBe(secret);
  expect(secrets.open(other, sealed)).toBeNull();
  expect(createWebhookSecrets(OTHER_SECRET).open(own, sealed)).toBeNull();
  for (const broken of ["", "x", secret, `${sealed.slice(0, -8)}AAAAAAA=`])
    expect(secrets.open(own, broken)).toBeNull();
});

test("after a change of JWT_SECRET nothing is sent unsigned: deliveries say how to fix it, and a rotation does", async () => {
  const database = await createTestDatabase();
  const receiver = startReceiver();
  const start = (secret: string) =>
    startApp({ database, config: { JWT_SECRET: secret, WEBHOOK_ALLOW_PRIVATE_NETWORKS: "true" } });
  const before = await start(JWT_SECRET);
  const account = await before.register();
  const { id } = await createWebhook(createRest(before, account), { url: receiver.url });
  await before.stop();

  const after = await start(OTHER_SECRET);
  const login = { email: account.user.email, password: "correct horse battery" };
  const logged = await after.fetch("/api/v1/auth/login", { json: login });
  const rest = createRest(after, (await logged.json()) as typeof account);
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
