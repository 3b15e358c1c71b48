import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { AuditEvent } from "../../src/modules/audit/model.ts";
import { type Webhook, type WebhookWithSecret, webhookEventTypes } from "../../src/modules/webhooks/model.ts";
import { PREVIOUS_SECRET_TTL_S } from "../../src/modules/webhooks/service.ts";
import type { RestClient } from "../support/rest.ts";
import {
  createWebhook,
  getWebhook,
  type Page,
  startWebhooks,
  UNREACHABLE_URL,
  type WebhookApp,
} from "./start-webhooks.ts";

let webhooks: WebhookApp;
let anna: RestClient;
let ben: RestClient;
let root: RestClient;
beforeAll(async () => {
  webhooks = await startWebhooks({ QUOTA_WEBHOOKS: "6" });
  [anna, ben, root] = await Promise.all([webhooks.register(), webhooks.register(), webhooks.registerAdmin()]);
});
afterAll(() => webhooks.stop());

const secretPattern = /^whsec_[A-Za-z0-9+/]{43}=$/;
const input = { url: UNREACHABLE_URL, events: ["message.created", "member.added"], description: "CRM" };

describe("a webhook", () => {
  test("is created with a secret, which only the response to its creation includes", async () => {
    const response = await anna.request<WebhookWithSecret>("POST", "/webhooks", input);
    expect(response.status).toBe(201);
    expect(response.headers.get("location")).toBe(`/api/v1/webhooks/${response.body.id}`);
    expect(response.headers.get("cache-control")).toBe("no-store");
    const { secret, ...webhook } = response.body;
    expect(secret).toMatch(secretPattern);
    expect(webhook).toEqual({
      id: expect.any(String),
      ...input,
      disabled: false,
      disabled_reason: null,
      disabled_at: null,
      previous_secret_until: null,
      created_at: expect.any(String),
      updated_at: webhook.created_at,
    });
    expect(await getWebhook(anna, webhook.id)).toEqual(webhook);
    expect((await anna.get<Page<Webhook>>("/webhooks")).body).toEqual({ data: [webhook], next_cursor: null });
    const [storedWebhook] = await webhooks.parley.database<{ row: string }[]>`
      select w::text as row from webhooks w where id = ${webhook.id}`;
    expect(storedWebhook?.row).not.toContain(secret.slice("whsec_".length, -4));
  });

  test("needs no description, and accepts each event type or all of them", async () => {
    const cleo = await webhooks.register();
    expect(await createWebhook(cleo, { events: ["*"] })).toMatchObject({ events: ["*"], description: null });
    expect((await createWebhook(cleo, { events: webhookEventTypes })).events).toEqual(webhookEventTypes);
    const repeatedEvents = await createWebhook(cleo, { events: ["member.added", "user.created", "member.added"] });
    expect(repeatedEvents.events).toEqual(["member.added", "user.created"]);
  });

  const invalidInputs: [string, Record<string, unknown>, string][] = [
    ["a missing URL", { url: undefined }, "#/url"],
    ["an invalid URL", { url: "receiver" }, "#/url"],
    ["an unsupported scheme", { url: "ftp://example.com/" }, "#/url"],
    ["a file URL", { url: "file:///etc/passwd" }, "#/url"],
    ["credentials in the URL", { url: "https://user:pass@example.com/" }, "#/url"],
    ["an oversized URL", { url: `https://example.com/${"a".repeat(2_000)}` }, "#/url"],
    ["a URL that is a number", { url: 7 }, "#/url"],
    ["no events", { events: [] }, "#/events"],
    ["an unknown event", { events: ["message.created", "message.sent"] }, "#/events/1"],
    ["an ephemeral event", { events: ["typing"] }, "#/events/0"],
    ["the test event", { events: ["webhook.test"] }, "#/events/0"],
    ["all events plus one more", { events: ["*", "message.created"] }, "#/events"],
    ["an oversized description", { description: "d".repeat(501) }, "#/description"],
    ["a custom secret", { secret: "whsec_AAAA" }, "#/secret"],
  ];
  test.each(invalidInputs)("with %s is rejected", async (_, fields, pointer) => {
    const problem = await ben.requestProblem("POST", "/webhooks", { ...input, ...fields });
    expect(problem.status).toBe(422);
    expect(problem.errors?.map((error) => error.pointer)).toEqual([pointer]);
    expect((await ben.get<Page<Webhook>>("/webhooks")).body.data).toEqual([]);
  });

  test("is created once per Idempotency-Key, and retrying the request returns the same secret", async () => {
    const cleo = await webhooks.register();
    const headers = { "idempotency-key": "once" };
    const firstResponse = await cleo.request<WebhookWithSecret>("POST", "/webhooks", input, headers);
    const secondResponse = await cleo.request<WebhookWithSecret>("POST", "/webhooks", input, headers);
    expect(secondResponse.headers.get("idempotent-replayed")).toBe("true");
    expect(secondResponse.body).toEqual(firstResponse.body);
    expect((await cleo.get<Page<Webhook>>("/webhooks")).body.data).toHaveLength(1);
  });

  test("is listed before older webhooks, in pages", async () => {
    const cleo = await webhooks.register();
    const ids: string[] = [];
    for (let n = 0; n < 5; n += 1) ids.unshift((await createWebhook(cleo)).id);
    const { rows, pages } = await cleo.listAll<Webhook>("/webhooks", 2);
    expect(rows.map(({ id }) => id)).toEqual(ids);
    expect(pages).toEqual([2, 2, 1]);
    expect((await cleo.requestProblem("GET", "/webhooks?cursor=nonsense")).code).toBe("bad_cursor");
  });

  test("can't be created beyond the quota, even if many are created concurrently", async () => {
    const cleo = await webhooks.register();
    const requestWebhook = () => cleo.request<Webhook>("POST", "/webhooks", input);
    const responses = await Promise.all(Array.from({ length: 10 }, requestWebhook));
    expect(responses.filter(({ status }) => status === 201)).toHaveLength(6);
    const problem = await cleo.requestProblem("POST", "/webhooks", input);
    expect(problem).toMatchObject({ status: 403, code: "quota_exceeded", violated_policies: ["webhooks"] });
    const { body } = await cleo.get<{ quotas: Record<string, unknown> }>("/me/usage");
    expect(body.quotas.webhooks).toEqual({ used: 6, limit: 6 });
    const id = responses.find(({ status }) => status === 201)?.body.id;
    expect((await cleo.request("DELETE", `/webhooks/${id}`)).status).toBe(204);
    expect((await cleo.request("POST", "/webhooks", input)).status).toBe(201);
  });
});

test("without WEBHOOK_ALLOW_PRIVATE_NETWORKS, URLs with private addresses are rejected in any notation", async () => {
  const restrictedApp = await startWebhooks({ WEBHOOK_ALLOW_PRIVATE_NETWORKS: "false" });
  const cleo = await restrictedApp.register();
  const { id } = await createWebhook(cleo, { url: "http://example.com:8080/parley" });
  const hosts = ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "10.0.0.7", "2130706433", "[::ffff:10.0.0.7]"];
  for (const host of hosts) {
    const url = `http://${host}/`;
    for (const problem of [
      await cleo.requestProblem("POST", "/webhooks", { ...input, url }),
      await cleo.requestProblem("PATCH", `/webhooks/${id}`, { url }),
    ])
      expect(problem).toMatchObject({ status: 422, errors: [{ pointer: "#/url" }] });
  }
  expect((await getWebhook(cleo, id)).url).toBe("http://example.com:8080/parley");
  await restrictedApp.stop();
});

describe("changing a webhook", () => {
  test("changes only the given fields", async () => {
    const { secret: _, ...webhookBefore } = await createWebhook(anna, input);
    const path = `/webhooks/${webhookBefore.id}`;
    const patchWebhook = async (change: Record<string, unknown>) =>
      (await anna.request<Webhook>("PATCH", path, change)).body;
    expect(await patchWebhook({})).toEqual(webhookBefore);
    const changedWebhook = await patchWebhook({ url: "https://elsewhere.invalid/x" });
    expect(changedWebhook).toEqual({
      ...webhookBefore,
      url: "https://elsewhere.invalid/x",
      updated_at: changedWebhook.updated_at,
    });
    expect(changedWebhook.updated_at > webhookBefore.updated_at).toBe(true);
    expect(await patchWebhook({ events: ["*"], description: null })).toMatchObject({
      url: "https://elsewhere.invalid/x",
      events: ["*"],
      description: null,
    });
    for (const change of [{ url: "nowhere" }, { events: ["nothing"] }, { disabled: "yes" }, { secret: "x" }])
      expect((await anna.requestProblem("PATCH", path, change)).status).toBe(422);
    expect((await getWebhook(anna, webhookBefore.id)).events).toEqual(["*"]);
  });

  test("can disable the webhook, and enable it again whatever disabled it", async () => {
    const { id } = await createWebhook(root);
    const setDisabled = async (disabled: boolean) =>
      (await root.request<Webhook>("PATCH", `/webhooks/${id}`, { disabled })).body;
    const disabled = await setDisabled(true);
    expect(disabled).toMatchObject({ disabled: true, disabled_reason: "user", disabled_at: expect.any(String) });
    expect(await setDisabled(true)).toEqual(disabled);
    expect(await setDisabled(false)).toMatchObject({ disabled: false, disabled_reason: null, disabled_at: null });
    await webhooks.parley.database`
      update webhooks set disabled_at = now(), disabled_reason = 'exhausted' where id = ${id}`;
    expect(await getWebhook(root, id)).toMatchObject({ disabled: true, disabled_reason: "exhausted" });
    expect(await setDisabled(false)).toMatchObject({ disabled: false, disabled_reason: null, disabled_at: null });
  });

  test("changes its ETag", async () => {
    const { id } = await createWebhook(root);
    const path = `/webhooks/${id}`;
    const etag = (await root.get(path)).headers.get("etag") ?? "";
    expect((await root.get(path, { "if-none-match": etag })).status).toBe(304);
    await root.request("PATCH", path, { description: "changed" });
    expect((await root.get(path, { "if-none-match": etag })).status).toBe(200);
  });
});

describe("If-Match", () => {
  test("accepts only the first of two changes to the same state", async () => {
    const cleo = await webhooks.register();
    const { id } = await createWebhook(cleo);
    const path = `/webhooks/${id}`;
    const etag = (await cleo.get(path)).headers.get("etag") ?? "";
    const patchDescription = (description: string, ifMatch: string) =>
      cleo.request<{ code?: string }>("PATCH", path, { description }, { "if-match": ifMatch });
    const responses = await Promise.all(["one", "two"].map((description) => patchDescription(description, etag)));
    expect(responses.map(({ status }) => status).sort()).toEqual([200, 412]);
    expect(responses.find(({ status }) => status === 412)?.body.code).toBe("precondition_failed");
    expect((await cleo.request("DELETE", path, undefined, { "if-match": etag })).status).toBe(412);
    // A weak ETag does not identify the exact state.
    const newestEtag = (await cleo.get(path)).headers.get("etag") ?? "";
    expect((await patchDescription("three", `W/${newestEtag}`)).status).toBe(412);
    expect((await patchDescription("four", `"other", ${newestEtag}`)).status).toBe(200);
    expect((await cleo.request("DELETE", path, undefined, { "if-match": "*" })).status).toBe(204);
  });
});

describe("rotating the secret", () => {
  test("returns a new secret, and keeps the previous one valid for a day", async () => {
    const { id, secret } = await createWebhook(root);
    const response = await root.request<WebhookWithSecret>("POST", `/webhooks/${id}/rotate-secret`);
    expect(response.status).toBe(200);
    expect(response.headers.get("cache-control")).toBe("no-store");
    expect(response.body.secret).toMatch(secretPattern);
    expect(response.body.secret).not.toBe(secret);
    const expiresAtMs = Date.parse(response.body.previous_secret_until ?? "");
    expect(Math.abs(expiresAtMs - Date.now() - PREVIOUS_SECRET_TTL_S * 1_000)).toBeLessThan(60_000);
    const { secret: _, ...webhook } = response.body;
    expect(await getWebhook(root, id)).toEqual(webhook);
    await webhooks.parley.database`update webhooks set previous_secret_until = now() where id = ${id}`;
    expect((await getWebhook(root, id)).previous_secret_until).toBeNull();
  });
});

describe("deleting a webhook", () => {
  test("also deletes its thousands of deliveries, and works only once", async () => {
    const { id } = await createWebhook(root);
    await webhooks.parley.database`
      insert into webhook_deliveries (id, webhook_id, type, occurred_at, status, finished_at)
      select gen_random_uuid(), ${id}, 'message.created', now(), 'delivered', now() from generate_series(1, 5000)`;
    expect((await root.request("DELETE", `/webhooks/${id}`)).status).toBe(204);
    for (const method of ["GET", "DELETE"])
      expect((await root.requestProblem(method, `/webhooks/${id}`)).code).toBe("not_found");
    const remaining = await webhooks.parley.database`
      select 1 from webhooks where id = ${id} union all select 1 from webhook_deliveries where webhook_id = ${id}`;
    expect([...remaining]).toEqual([]);
  });
});

describe("access to a webhook", () => {
  const requests: [string, string, unknown?][] = [
    ["GET", ""],
    ["PATCH", "", { disabled: true }],
    ["PATCH", "", { url: "https://elsewhere.invalid/" }],
    ["DELETE", ""],
    ["POST", "/rotate-secret"],
    ["POST", "/test"],
    ["GET", "/deliveries"],
    ["GET", "/deliveries/{delivery}"],
    ["POST", "/deliveries/{delivery}/redeliver"],
  ];

  test("is denied to other users, even administrators", async () => {
    const cleo = await webhooks.register();
    const { secret: _, ...webhook } = await createWebhook(cleo);
    const delivery = Bun.randomUUIDv7();
    await webhooks.parley.database`
      insert into webhook_deliveries (id, webhook_id, type, occurred_at, status, finished_at)
      values (${delivery}, ${webhook.id}, 'message.created', now(), 'failed', now())`;
    expect(requests.length).toBeGreaterThan(8);
    for (const outsider of [ben, root])
      for (const [method, path, json] of requests) {
        const fullPath = `/webhooks/${webhook.id}${path.replace("{delivery}", delivery)}`;
        expect((await outsider.requestProblem(method, fullPath, json)).code).toBe("not_found");
      }
    expect((await ben.get<Page<Webhook>>("/webhooks")).body.data).toEqual([]);
    expect(await getWebhook(cleo, webhook.id)).toEqual(webhook);
    for (const [method, path] of requests)
      expect((await webhooks.parley.fetch(`/api/v1/webhooks/${webhook.id}${path}`, { method })).status).toBe(401);
    // The delivery isn't found under another webhook of the same user either.
    const { id: otherWebhookId } = await createWebhook(cleo);
    for (const [method, path] of requests.slice(-2)) {
      const fullPath = `/webhooks/${otherWebhookId}${path.replace("{delivery}", delivery)}`;
      expect((await cleo.requestProblem(method, fullPath)).code).toBe("not_found");
    }
  });

  test("is denied to API keys without the required scope", async () => {
    const cleo = await webhooks.register();
    const { id } = await createWebhook(cleo);
    const createFetchWithKey = async (scope: string) => {
      const createdKey = await cleo.request<{ key: string }>("POST", "/api-keys", { name: "k", scopes: [scope] });
      return (method: string, path: string, json?: unknown) =>
        webhooks.parley.fetch(`/api/v1/webhooks${path}`, {
          token: createdKey.body.key,
          method,
          ...(json ? { json } : {}),
        });
    };
    const [fetchWithRead, fetchWithWrite, fetchWithNeither] = [
      await createFetchWithKey("webhooks:read"),
      await createFetchWithKey("webhooks:write"),
      await createFetchWithKey("messages:read"),
    ];
    expect((await fetchWithRead("GET", `/${id}`)).status).toBe(200);
    expect((await fetchWithRead("PATCH", `/${id}`, { disabled: true })).status).toBe(403);
    expect((await fetchWithRead("POST", `/${id}/rotate-secret`)).status).toBe(403);
    expect((await fetchWithWrite("PATCH", `/${id}`, { disabled: true })).status).toBe(200);
    expect((await fetchWithWrite("GET", `/${id}`)).status).toBe(403);
    for (const [method, path] of requests.filter(([, path]) => !path.includes("{")))
      expect((await fetchWithNeither(method, `/${id}${path}`)).status).toBe(403);
  });
});

test("creating, changing and deleting a webhook and rotating its secret are audited, without the path of its URL", async () => {
  const { id } = await createWebhook(root, { url: "https://receiver.invalid:8443/token-in-the-path?key=x" });
  await root.request("PATCH", `/webhooks/${id}`, { disabled: true });
  await root.request("POST", `/webhooks/${id}/rotate-secret`);
  await root.request("DELETE", `/webhooks/${id}`);
  const { body } = await root.get<Page<AuditEvent>>(`/audit?target_id=${id}`);
  expect(body.data.map(({ action }) => action)).toEqual([
    "webhook.deleted",
    "webhook.secret_rotated",
    "webhook.changed",
    "webhook.created",
  ]);
  for (const entry of body.data)
    expect(entry).toMatchObject({ actor_id: root.id, target: { type: "webhook", id }, ip_address: "127.0.0.1" });
  const details = { host: "receiver.invalid:8443", events: "message.created" };
  expect(body.data[3]?.details).toEqual({ ...details, disabled: false });
  expect(body.data[2]?.details).toEqual({ ...details, disabled: true });
  expect(JSON.stringify(body)).not.toContain("token-in-the-path");
});
