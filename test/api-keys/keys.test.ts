import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { settings } from "../../src/config/settings.ts";
import { NAME_CHARS_MAX } from "../../src/modules/api-keys/limits.ts";
import type { ApiKey, CreatedApiKey } from "../../src/modules/api-keys/model.ts";
import { createApiKeyService } from "../../src/modules/api-keys/service.ts";
import { createAuditService } from "../../src/modules/audit/service.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { silentLog } from "../support/log.ts";
import { createRest } from "../support/rest.ts";
import { createKey, registerAdmin } from "./create-key.ts";

let parley: TestApp;
let anna: Account;
let ben: Account;
let root: Account;
beforeAll(async () => {
  parley = await startApp();
  [anna, ben, root] = await Promise.all([parley.register(), parley.register(), registerAdmin(parley)]);
});
afterAll(() => parley.stop());

const rest = (account: Account) => createRest(parley, account);
const restWithKey = (key: string) => createRest(parley, { ...anna, access_token: key });
const inAnHour = () => new Date(Date.now() + 3_600_000).toISOString();
const input = { name: "backend", scopes: ["messages:read"] };

describe("a key", () => {
  test("is shown once, and stored as a hash", async () => {
    const expires_at = inAnHour();
    const answer = await rest(anna).request<CreatedApiKey>("POST", "/api-keys", { ...input, expires_at });
    expect(answer.status).toBe(201);
    expect(answer.headers.get("cache-control")).toBe("no-store");
    expect(answer.headers.get("location")).toBe(`/api/v1/api-keys/${answer.body.id}`);
    const { key, ...shown } = answer.body;
    expect(key).toMatch(/^pk_[0-9A-Za-z]{36}$/);
    expect(shown).toEqual({
      id: expect.any(String),
      ...input,
      scopes: ["messages:read"],
      prefix: key.slice(0, 7),
      last_four: key.slice(-4),
      service: false,
      expires_at,
      last_used_at: null,
      created_at: expect.any(String),
    });
    expect((await rest(anna).get<ApiKey>(`/api-keys/${shown.id}`)).body).toEqual(shown);
    const stored = await parley.database<{ row: string; hash: string }[]>`
      select k::text as row, encode(hash, 'hex') as hash from api_keys k where id = ${shown.id}`;
    expect(stored[0]?.hash).toBe(new Bun.CryptoHasher("sha256").update(key).digest("hex"));
    expect(stored[0]?.row).not.toContain(key.slice(7, -4));
  });

  test("is deleted once, and invalid from then on", async () => {
    const { id, key } = await createKey(parley, anna);
    expect((await restWithKey(key).get("/me")).status).toBe(200);
    expect((await rest(anna).request("DELETE", `/api-keys/${id}`)).status).toBe(204);
    expect((await restWithKey(key).refused("GET", "/me")).code).toBe("unauthorized");
    for (const method of ["GET", "DELETE"])
      expect((await rest(anna).refused(method, `/api-keys/${id}`)).code).toBe("not_found");
  });

  test("belongs to its owner: nobody else can read or delete it, not even an administrator", async () => {
    const { id, key } = await createKey(parley, anna);
    for (const outsider of [ben, root])
      for (const method of ["GET", "DELETE"])
        expect((await rest(outsider).refused(method, `/api-keys/${id}`)).code).toBe("not_found");
    expect((await rest(ben).get<{ data: ApiKey[] }>("/api-keys")).body.data).toEqual([]);
    expect((await restWithKey(key).get("/me")).status).toBe(200);
    expect((await parley.fetch("/api/v1/api-keys")).status).toBe(401);
  });

  test("its creation and deletion are recorded in the audit log", async () => {
    const { id } = await createKey(parley, anna);
    await rest(anna).request("DELETE", `/api-keys/${id}`);
    const entries = await parley.database`
      select action, actor_id, target_type, ip_address, details from audit_events where target_id = ${id} order by id`;
    const shared = { actor_id: anna.user.id, target_type: "api_key", ip_address: "127.0.0.1" };
    expect([...entries] as unknown[]).toEqual([
      {
        ...shared,
        action: "api_key.created",
        details: { owner_id: anna.user.id, scopes: "messages:read messages:write", service: false },
      },
      { ...shared, action: "api_key.deleted", details: {} },
    ]);
  });
});

test("the list is paged, newest first, and without the keys themselves", async () => {
  const account = await parley.register();
  const made: CreatedApiKey[] = [];
  for (let n = 0; n < 7; n += 1) made.push(await createKey(parley, account, { name: `key ${n}` }));
  const { rows, pages } = await rest(account).all<ApiKey>("/api-keys", 3);
  expect(pages).toEqual([3, 3, 1]);
  expect(rows).toEqual(made.map(({ key: _, ...shown }) => shown).reverse());
  expect((await rest(account).refused("GET", "/api-keys?cursor=x")).code).toBe("bad_cursor");
});

test.each([
  ["no scopes", { scopes: [] }, "#/scopes"],
  ["an unknown scope", { scopes: ["messages:read", "messages:delete"] }, "#/scopes/1"],
  ["scopes that are not an array", { scopes: "messages:read" }, "#/scopes"],
  ["no name", { name: undefined }, "#/name"],
  ["a blank name", { name: "  " }, "#/name"],
  ["a long name", { name: "x".repeat(NAME_CHARS_MAX + 1) }, "#/name"],
  ["an expiry in the past", { expires_at: new Date(Date.now() - 1_000).toISOString() }, "#/expires_at"],
  ["an invalid expiry", { expires_at: "tomorrow" }, "#/expires_at"],
  ["an unknown field", { owner: "me" }, "#/owner"],
])("%s is rejected", async (_, change, pointer) => {
  const refused = await rest(anna).refused("POST", "/api-keys", { ...input, ...change });
  expect(refused.status).toBe(422);
  expect(refused.errors?.map((error) => error.pointer)).toContain(pointer);
});

test("a name may have the maximum length; a duplicate scope counts once", async () => {
  const name = "x".repeat(NAME_CHARS_MAX);
  const key = await createKey(parley, anna, { name, scopes: ["messages:read", "messages:read"], expires_at: null });
  expect(key).toMatchObject({ name, scopes: ["messages:read"], expires_at: null });
});

test("the number of keys per user is limited, also for concurrent requests", async () => {
  const account = await parley.register();
  const quota = settings.properties.QUOTA_API_KEYS.default;
  await parley.database`
    insert into api_keys (id, user_id, name, hash, prefix, last_four, scopes)
    select gen_random_uuid(), ${account.user.id}, 'k', sha256(n::text::bytea), '', '', '{messages:read}'
    from generate_series(1, ${quota - 3}) n`;
  const answers = await Promise.all(Array.from({ length: 8 }, () => rest(account).request("POST", "/api-keys", input)));
  expect(answers.map(({ status }) => status).sort()).toEqual([201, 201, 201, 403, 403, 403, 403, 403]);
});

describe("only administrators may grant", () => {
  test.each([
    ["the scope admin", { scopes: ["admin"] }],
    ["a service key", { service: true }],
  ])("%s", async (_, change) => {
    expect((await rest(ben).refused("POST", "/api-keys", { ...input, ...change })).code).toBe("forbidden");
    expect((await createKey(parley, root, change)).service).toBe("service" in change);
  });
});

describe("keys created with a key", () => {
  test("require the scope admin, and grant no more than the owner has", async () => {
    const limited = await createKey(parley, root, { scopes: ["users:write", "conversations:write"] });
    for (const [method, path] of [
      ["POST", "/api-keys"],
      ["GET", "/api-keys"],
      ["GET", `/api-keys/${limited.id}`],
      ["DELETE", `/api-keys/${limited.id}`],
    ] as const)
      expect((await restWithKey(limited.key).refused(method, path, method === "POST" ? input : undefined)).code).toBe(
        "forbidden",
      );
    const full = await createKey(parley, root, { scopes: ["admin"] });
    const made = await restWithKey(full.key).request<CreatedApiKey>("POST", "/api-keys", {
      ...input,
      scopes: ["admin"],
    });
    expect(made.status).toBe(201);
    expect((await restWithKey(full.key).request("DELETE", `/api-keys/${made.body.id}`)).status).toBe(204);
  });

  test("a former administrator can't grant more than they have", async () => {
    const former = await registerAdmin(parley);
    const full = await createKey(parley, former, { scopes: ["admin"] });
    await parley.database`update users set role = 'user' where id = ${former.user.id}`;
    expect((await restWithKey(full.key).refused("POST", "/api-keys", { ...input, scopes: ["admin"] })).code).toBe(
      "forbidden",
    );
    expect((await restWithKey(full.key).refused("POST", "/api-keys", { ...input, service: true })).code).toBe(
      "forbidden",
    );
  });

  test("can only act for others if the creating key can", async () => {
    const asked = { ...input, service: true };
    const full = await createKey(parley, root, { scopes: ["admin"] });
    expect((await restWithKey(full.key).refused("POST", "/api-keys", asked)).code).toBe("forbidden");
    const service = await createKey(parley, root, { scopes: ["admin"], service: true });
    expect((await restWithKey(service.key).request("POST", "/api-keys", asked)).status).toBe(201);
  });

  test("can't outlive the creating key", async () => {
    const endsAt = new Date(Date.now() + 3_600_000).toISOString();
    const later = new Date(Date.parse(endsAt) + 1).toISOString();
    const brief = await createKey(parley, root, { scopes: ["admin"], expires_at: endsAt });
    for (const expires_at of [undefined, null, later])
      expect((await restWithKey(brief.key).refused("POST", "/api-keys", { ...input, expires_at })).code).toBe(
        "forbidden",
      );
    expect((await restWithKey(brief.key).request("POST", "/api-keys", { ...input, expires_at: endsAt })).status).toBe(
      201,
    );
  });

  test("can't be created on behalf of another user", async () => {
    const service = await createKey(parley, root, { scopes: ["admin"], service: true });
    const headers = { "x-on-behalf-of": ben.user.id };
    const answer = await restWithKey(service.key).request<{ code: string }>("POST", "/api-keys", input, headers);
    expect(answer.body.code).toBe("forbidden");
    expect((await rest(ben).get<{ data: unknown[] }>("/api-keys")).body.data).toEqual([]);
  });
});

test("a user's export contains their keys, but not the hashes", async () => {
  const account = await parley.register();
  const { id, key } = await createKey(parley, account, { name: "in the export" });
  const text = await (await parley.fetch("/api/v1/me/export", { token: account.access_token })).text();
  expect((JSON.parse(text) as { api_keys: unknown[] }).api_keys).toEqual([
    {
      id,
      name: "in the export",
      prefix: key.slice(0, 7),
      last_four: key.slice(-4),
      scopes: ["messages:read", "messages:write"],
      is_service: false,
      expires_at: null,
      last_used_at: null,
      created_at: expect.any(String),
    },
  ]);
  const hash = new Bun.CryptoHasher("sha256").update(key).digest("hex");
  for (const secret of [key, hash, Buffer.from(hash, "hex").toString("base64")]) expect(text).not.toContain(secret);
});

test("keys that expired long ago are deleted; recently expired ones are still listed", async () => {
  const account = await parley.register();
  const [old, recent] = [await createKey(parley, account), await createKey(parley, account)];
  await parley.database`update api_keys set expires_at = now() - interval '31 days' where id = ${old.id}`;
  await parley.database`update api_keys set expires_at = now() - interval '29 days' where id = ${recent.id}`;
  const { database } = parley;
  const service = createApiKeyService({
    database,
    audit: createAuditService(),
    quotas: { requireRoom() {} },
    log: silentLog,
    onKeysEnded() {},
  });
  expect(await service.sweep()).toBe(1);
  const { data } = (await rest(account).get<{ data: ApiKey[] }>("/api-keys")).body;
  expect(data.map(({ id }) => id)).toEqual([recent.id]);
});
