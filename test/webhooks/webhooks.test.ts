import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { AuditEvent } from "../../src/modules/audit/model.ts";
import { type Webhook, type WebhookWithSecret, webhookEventTypes } from "../../src/modules/webhooks/model.ts";
import { PREVIOUS_SECRET_TTL_S } from "../../src/modules/webhooks/service.ts";
import type { Rest } from "../support/rest.ts";
import { createWebhook, NOWHERE, type Page, readWebhook, startWebhooks, type WithWebhooks } from "./start-webhooks.ts";

let webhooks: WithWebhooks;
let anna: Rest;
let ben: Rest;
let root: Rest;
beforeAll(async () => {
  webhooks = await startWebhooks({ QUOTA_WEBHOOKS: "6" });
  [anna, ben, root] = await Promise.all([webhooks.join(), webhooks.join(), webhooks.joinAdmin()]);
});
afterAll(() => webhooks.stop());

const SECRET = /^whsec_[A-Za-z0-9+/]{43}=$/;
const input = { url: NOWHERE, events: ["message.created", "member.added"], description: "CRM" };

describe("a webhook", () => {
  test("is created with a secret that only this response shows", async () => {
    const answer = await anna.request<WebhookWithSecret>("POST", "/webhooks", input);
    expect(answer.status).toBe(201);
    expect(answer.headers.get("location")).toBe(`/api/v1/webhooks/${answer.body.id}`);
    expect(answer.headers.get("cache-control")).toBe("no-store");
    const { secret, ...shown } = answer.body;
    expect(secret).toMatch(SECRET);
    expect(shown).toEqual({
      id: expect.any(String),
      ...input,
      disabled: false,
      disabled_reason: null,
      disabled_at: null,
      previous_secret_until: null,
      created_at: expect.any(String),
      updated_at: shown.created_at,
    });
    expect(await readWebhook(anna, shown.id)).toEqual(shown);
    expect((await anna.get<Page<Webhook>>("/webhooks")).body).toEqual({ data: [shown], next_cursor: null });
    const [stored] = await webhooks.parley.database<{ row: string }[]>`
      select w::text as row from webhooks w where id = ${shown.id}`;
    expect(stored?.row).not.toContain(secret.slice("whsec_".length, -4));
  });

  test("needs no description, and accepts each event type or all of them", async () => {
    const cleo = await webhooks.join();
    expect(await createWebhook(cleo, { events: ["*"] })).toMatchObject({ events: ["*"], description: null });
    expect((await createWebhook(cleo, { events: webhookEventTypes })).events).toEqual(webhookEventTypes);
    const repeatedEvents = await createWebhook(cleo, { events: ["member.added", "user.created", "member.added"] });
    expect(repeatedEvents.events).toEqual(["member.added", "user.created"]);
  });

  const invalid: [string, Record<string, unknown>, string][] = [
    ["a missing URL", { url: undefined }, "#/url"],
    ["an invalid URL", { url: "receiver" }, "#/url"],
    ["another scheme", { url: "ftp://example.com/" }, "#/url"],
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
  test.each(invalid)("with %s is refused", async (_, fault, pointer) => {
    const refused = await ben.refused("POST", "/webhooks", { ...input, ...fault });
    expect(refused.status).toBe(422);
    expect(refused.errors?.map((error) => error.pointer)).toEqual([pointer]);
    expect((await ben.get<Page<Webhook>>("/webhooks")).body.data).toEqual([]);
  });

  test("is created once per Idempotency-Key, and a repeat shows the secret again", async () => {
    const cleo = await webhooks.join();
    const headers = { "idempotency-key": "once" };
    const first = await cleo.request<WebhookWithSecret>("POST", "/webhooks", input, headers);
    const second = await cleo.request<WebhookWithSecret>("POST", "/webhooks", input, headers);
    expect(second.headers.get("idempotent-replayed")).toBe("true");
    expect(second.body).toEqual(first.body);
    expect((await cleo.get<Page<Webhook>>("/webhooks")).body.data).toHaveLength(1);
  });

  test("is listed newest first, page by page", async () => {
    const cleo = await webhooks.join();
    const ids: string[] = [];
    for (let n = 0; n < 5; n += 1) ids.unshift((await createWebhook(cleo)).id);
    const { rows, pages } = await cleo.all<Webhook>("/webhooks", 2);
    expect(rows.map(({ id }) => id)).toEqual(ids);
    expect(pages).toEqual([2, 2, 1]);
    expect((await cleo.refused("GET", "/webhooks?cursor=nonsense")).code).toBe("bad_cursor");
  });

  test("is created at most as often as the quota allows, under concurrency", async () => {
    const cleo = await webhooks.join();
    const made = await Promise.all(Array.from({ length: 10 }, () => cleo.request<Webhook>("POST", "/webhooks", input)));
    expect(made.filter(({ status }) => status === 201)).toHaveLength(6);
    const refused = await cleo.refused("POST", "/webhooks", input);
    expect(refused).toMatchObject({ status: 403, code: "quota_exceeded", violated_policies: ["webhooks"] });
    const { body } = await cleo.get<{ quotas: Record<string, unknown> }>("/me/usage");
    expect(body.quotas.webhooks).toEqual({ used: 6, limit: 6 });
    const id = made.find(({ status }) => status === 201)?.body.id;
    expect((await cleo.request("DELETE", `/webhooks/${id}`)).status).toBe(204);
    expect((await cleo.request("POST", "/webhooks", input)).status).toBe(201);
  });
});

test("without WEBHOOK_ALLOW_PRIVATE_NETWORKS, URLs of private addresses are refused in any notation", async () => {
  const closed = await startWebhooks({ WEBHOOK_ALLOW_PRIVATE_NETWORKS: "false" });
  const cleo = await closed.join();
  const { id } = await createWebhook(cleo, { url: "http://example.com:8080/parley" });
  const hosts = ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "10.0.0.7", "2130706433", "[::ffff:10.0.0.7]"];
  for (const host of hosts) {
    const url = `http://${host}/`;
    for (const refused of [
      await cleo.refused("POST", "/webhooks", { ...input, url }),
      await cleo.refused("PATCH", `/webhooks/${id}`, { url }),
    ])
      expect(refused).toMatchObject({ status: 422, errors: [{ pointer: "#/url" }] });
  }
  expect((await readWebhook(cleo, id)).url).toBe("http://example.com:8080/parley");
  await closed.stop();
});

describe("changing a webhook", () => {
  test("changes only the given fields", async () => {
    const { secret: _, ...before } = await createWebhook(anna, input);
    const path = `/webhooks/${before.id}`;
    const patch = async (change: Record<string, unknown>) => (await anna.request<Webhook>("PATCH", path, change)).body;
    expect(await patch({})).toEqual(before);
    const moved = await patch({ url: "https://elsewhere.invalid/x" });
    expect(moved).toEqual({ ...before, url: "https://elsewhere.invalid/x", updated_at: moved.updated_at });
    expect(moved.updated_at > before.updated_at).toBe(true);
    expect(await patch({ events: ["*"], description: null })).toMatchObject({
      url: "https://elsewhere.invalid/x",
      events: ["*"],
      description: null,
    });
    for (const change of [{ url: "nowhere" }, { events: ["nothing"] }, { disabled: "yes" }, { secret: "x" }])
      expect((await anna.refused("PATCH", path, change)).status).toBe(422);
    expect((await readWebhook(anna, before.id)).events).toEqual(["*"]);
  });

  test("disables it, and enables it again, whatever the reason it was disabled", async () => {
    const { id } = await createWebhook(root);
    const patch = async (disabled: boolean) =>
      (await root.request<Webhook>("PATCH", `/webhooks/${id}`, { disabled })).body;
    const off = await patch(true);
    expect(off).toMatchObject({ disabled: true, disabled_reason: "user", disabled_at: expect.any(String) });
    expect(await patch(true)).toEqual(off);
    expect(await patch(false)).toMatchObject({ disabled: false, disabled_reason: null, disabled_at: null });
    await webhooks.parley.database`
      update webhooks set disabled_at = now(), disabled_reason = 'exhausted' where id = ${id}`;
    expect(await readWebhook(root, id)).toMatchObject({ disabled: true, disabled_reason: "exhausted" });
    expect(await patch(false)).toMatchObject({ disabled: false, disabled_reason: null, disabled_at: null });
  });

  test("changes its ETag", async () => {
    const { id } = await createWebhook(root);
    const path = `/webhooks/${id}`;
    const tag = (await root.get(path)).headers.get("etag") ?? "";
    expect((await root.get(path, { "if-none-match": tag })).status).toBe(304);
    await root.request("PATCH", path, { description: "changed" });
    expect((await root.get(path, { "if-none-match": tag })).status).toBe(200);
  });
});

describe("If-Match", () => {
  test("accepts only the first of two changes of the same state", async () => {
    const cleo = await webhooks.join();
    const { id } = await createWebhook(cleo);
    const path = `/webhooks/${id}`;
    const tag = (await cleo.get(path)).headers.get("etag") ?? "";
    const patch = (description: string, ifMatch: string) =>
      cleo.request<{ code?: string }>("PATCH", path, { description }, { "if-match": ifMatch });
    const both = await Promise.all(["one", "two"].map((description) => patch(description, tag)));
    expect(both.map((answer) => answer.status).sort()).toEqual([200, 412]);
    expect(both.find((answer) => answer.status === 412)?.body.code).toBe("precondition_failed");
    expect((await cleo.request("DELETE", path, undefined, { "if-match": tag })).status).toBe(412);
    // A weak ETag does not identify the exact state.
    const newest = (await cleo.get(path)).headers.get("etag") ?? "";
    expect((await patch("three", `W/${newest}`)).status).toBe(412);
    expect((await patch("four", `"other", ${newest}`)).status).toBe(200);
    expect((await cleo.request("DELETE", path, undefined, { "if-match": "*" })).status).toBe(204);
  });
});

describe("rotating the secret", () => {
  test("returns a new one, and keeps the previous one for a day", async () => {
    const { id, secret } = await createWebhook(root);
    const answer = await root.request<WebhookWithSecret>("POST", `/webhooks/${id}/rotate-secret`);
    expect(answer.status).toBe(200);
    expect(answer.headers.get("cache-control")).toBe("no-store");
    expect(answer.body.secret).toMatch(SECRET);
    expect(answer.body.secret).not.toBe(secret);
    const until = Date.parse(answer.body.previous_secret_until ?? "");
    expect(Math.abs(until - Date.now() - PREVIOUS_SECRET_TTL_S * 1_000)).toBeLessThan(60_000);
    const { secret: _, ...shown } = answer.body;
    expect(await readWebhook(root, id)).toEqual(shown);
    await webhooks.parley.database`update webhooks set previous_secret_until = now() where id = ${id}`;
    expect((await readWebhook(root, id)).previous_secret_until).toBeNull();
  });
});

describe("deleting a webhook", () => {
  test("deletes it once, with all its deliveries, even very many", async () => {
    const { id } = await createWebhook(root);
    await webhooks.parley.database`
      insert into webhook_deliveries (id, webhook_id, type, occurred_at, status, finished_at)
      select gen_random_uuid(), ${id}, 'message.created', now(), 'delivered', now() from generate_series(1, 5000)`;
    expect((await root.request("DELETE", `/webhooks/${id}`)).status).toBe(204);
    for (const method of ["GET", "DELETE"])
      expect((await root.refused(method, `/webhooks/${id}`)).code).toBe("not_found");
    const left = await webhooks.parley.database`
      select 1 from webhooks where id = ${id} union all select 1 from webhook_deliveries where webhook_id = ${id}`;
    expect([...left]).toEqual([]);
  });
});

describe("other users", () => {
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

  test("find nothing, not even administrators", async () => {
    const cleo = await webhooks.join();
    const { secret: _, ...webhook } = await createWebhook(cleo);
    const delivery = Bun.randomUUIDv7();
    await webhooks.parley.database`
      insert into webhook_deliveries (id, webhook_id, type, occurred_at, status, finished_at)
      values (${delivery}, ${webhook.id}, 'message.created', now(), 'failed', now())`;
    expect(requests.length).toBeGreaterThan(8);
    for (const outsider of [ben, root])
      for (const [method, path, json] of requests) {
        const address = `/webhooks/${webhook.id}${path.replace("{delivery}", delivery)}`;
        expect((await outsider.refused(method, address, json)).code).toBe("not_found");
      }
    expect((await ben.get<Page<Webhook>>("/webhooks")).body.data).toEqual([]);
    expect(await readWebhook(cleo, webhook.id)).toEqual(webhook);
    for (const [method, path] of requests)
      expect((await webhooks.parley.fetch(`/api/v1/webhooks/${webhook.id}${path}`, { method })).status).toBe(401);
    // Nor is it found below another webhook of the same user.
    const { id: other } = await createWebhook(cleo);
    for (const [method, path] of requests.slice(-2)) {
      const address = `/webhooks/${other}${path.replace("{delivery}", delivery)}`;
      expect((await cleo.refused(method, address)).code).toBe("not_found");
    }
  });

  test("keys without the scope are refused", async () => {
    const cleo = await webhooks.join();
    const { id } = await createWebhook(cleo);
    const withKey = async (scope: string) => {
      const made = await cleo.request<{ key: string }>("POST", "/api-keys", { name: "k", scopes: [scope] });
      return (method: string, path: string, json?: unknown) =>
        webhooks.parley.fetch(`/api/v1/webhooks${path}`, { token: made.body.key, method, ...(json ? { json } : {}) });
    };
    const [reads, writes, neither] = [
      await withKey("webhooks:read"),
      await withKey("webhooks:write"),
      await withKey("messages:read"),
    ];
    expect((await reads("GET", `/${id}`)).status).toBe(200);
    expect((await reads("PATCH", `/${id}`, { disabled: true })).status).toBe(403);
    expect((await reads("POST", `/${id}/rotate-secret`)).status).toBe(403);
    expect((await writes("PATCH", `/${id}`, { disabled: true })).status).toBe(200);
    expect((await writes("GET", `/${id}`)).status).toBe(403);
    for (const [method, path] of requests.filter(([, address]) => !address.includes("{")))
      expect((await neither(method, `/${id}${path}`)).status).toBe(403);
  });
});

test("creating, changing, rotating and deleting are audited, without the path of the URL", async () => {
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
  const described = { host: "receiver.invalid:8443", events: "message.created" };
  expect(body.data[3]?.details).toEqual({ ...described, disabled: false });
  expect(body.data[2]?.details).toEqual({ ...described, disabled: true });
  expect(JSON.stringify(body)).not.toContain("token-in-the-path");
});
