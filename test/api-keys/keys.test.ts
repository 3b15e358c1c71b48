import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { settings } from "../../src/config/settings.ts";
import { NAME_CHARS_MAX } from "../../src/modules/api-keys/limits.ts";
import type { ApiKey, CreatedApiKey } from "../../src/modules/api-keys/model.ts";
import { createApiKeyService } from "../../src/modules/api-keys/service.ts";
import { createAuditService } from "../../src/modules/audit/service.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { silentLog } from "../support/log.ts";
import { createRestClient } from "../support/rest.ts";
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

const createUserClient = (account: Account) => createRestClient(parley, account);
const createKeyClient = (key: string) => createRestClient(parley, { ...anna, access_token: key });
const createExpiry = () => new Date(Date.now() + 3_600_000).toISOString();
const keyInput = { name: "backend", scopes: ["messages:read"] };

describe("a key", () => {
  test("is returned only once, and is stored as a hash", async () => {
    const expires_at = createExpiry();
    const response = await createUserClient(anna).request<CreatedApiKey>("POST", "/api-keys", {
      ...keyInput,
      expires_at,
    });
    expect(response.status).toBe(201);
    expect(response.headers.get("cache-control")).toBe("no-store");
    expect(response.headers.get("location")).toBe(`/api/v1/api-keys/${response.body.id}`);
    const { key, ...publicFields } = response.body;
    expect(key).toMatch(/^pk_[0-9A-Za-z]{36}$/);
    expect(publicFields).toEqual({
      id: expect.any(String),
      ...keyInput,
      scopes: ["messages:read"],
      prefix: key.slice(0, 7),
      last_four: key.slice(-4),
      service: false,
      expires_at,
      last_used_at: null,
      created_at: expect.any(String),
    });
    expect((await createUserClient(anna).get<ApiKey>(`/api-keys/${publicFields.id}`)).body).toEqual(publicFields);
    const storedRows = await parley.database<{ row: string; hash: string }[]>`
      select k::text as row, encode(hash, 'hex') as hash from api_keys k where id = ${publicFields.id}`;
    expect(storedRows[0]?.hash).toBe(new Bun.CryptoHasher("sha256").update(key).digest("hex"));
    expect(storedRows[0]?.row).not.toContain(key.slice(7, -4));
  });

  test("is invalid once it is deleted", async () => {
    const { id, key } = await createKey(parley, anna);
    expect((await createKeyClient(key).get("/me")).status).toBe(200);
    expect((await createUserClient(anna).request("DELETE", `/api-keys/${id}`)).status).toBe(204);
    expect((await createKeyClient(key).requestProblem("GET", "/me")).code).toBe("unauthorized");
    for (const method of ["GET", "DELETE"])
      expect((await createUserClient(anna).requestProblem(method, `/api-keys/${id}`)).code).toBe("not_found");
  });

  test("can't be read or deleted by other users, including administrators", async () => {
    const { id, key } = await createKey(parley, anna);
    for (const outsider of [ben, root])
      for (const method of ["GET", "DELETE"])
        expect((await createUserClient(outsider).requestProblem(method, `/api-keys/${id}`)).code).toBe("not_found");
    expect((await createUserClient(ben).get<{ data: ApiKey[] }>("/api-keys")).body.data).toEqual([]);
    expect((await createKeyClient(key).get("/me")).status).toBe(200);
    expect((await parley.fetch("/api/v1/api-keys")).status).toBe(401);
  });

  test("is recorded in the audit log when it is created or deleted", async () => {
    const { id } = await createKey(parley, anna);
    await createUserClient(anna).request("DELETE", `/api-keys/${id}`);
    const entries = await parley.database`
      select action, actor_id, target_type, ip_address, details from audit_events where target_id = ${id} order by id`;
    const sharedFields = { actor_id: anna.user.id, target_type: "api_key", ip_address: "127.0.0.1" };
    expect([...entries] as unknown[]).toEqual([
      {
        ...sharedFields,
        action: "api_key.created",
        details: { owner_id: anna.user.id, scopes: "messages:read messages:write", service: false },
      },
      { ...sharedFields, action: "api_key.deleted", details: {} },
    ]);
  });
});

test("the list of keys is paginated, newest first, and doesn't contain the keys themselves", async () => {
  const account = await parley.register();
  const createdKeys: CreatedApiKey[] = [];
  for (let n = 0; n < 7; n += 1) createdKeys.push(await createKey(parley, account, { name: `key ${n}` }));
  const { rows, pages } = await createUserClient(account).listAll<ApiKey>("/api-keys", 3);
  expect(pages).toEqual([3, 3, 1]);
  expect(rows).toEqual(createdKeys.map(({ key: _, ...publicFields }) => publicFields).reverse());
  expect((await createUserClient(account).requestProblem("GET", "/api-keys?cursor=x")).code).toBe("bad_cursor");
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
])("a key with %s is rejected", async (_, changedFields, pointer) => {
  const problem = await createUserClient(anna).requestProblem("POST", "/api-keys", { ...keyInput, ...changedFields });
  expect(problem.status).toBe(422);
  expect(problem.errors?.map((error) => error.pointer)).toContain(pointer);
});

test("a key's name can have the maximum length, and a duplicate scope is stored once", async () => {
  const name = "x".repeat(NAME_CHARS_MAX);
  const key = await createKey(parley, anna, { name, scopes: ["messages:read", "messages:read"], expires_at: null });
  expect(key).toMatchObject({ name, scopes: ["messages:read"], expires_at: null });
});

test("the number of keys per user is limited, even for concurrent requests", async () => {
  const account = await parley.register();
  const quota = settings.properties.QUOTA_API_KEYS.default;
  await parley.database`
    insert into api_keys (id, user_id, name, hash, prefix, last_four, scopes)
    select gen_random_uuid(), ${account.user.id}, 'k', sha256(n::text::bytea), '', '', '{messages:read}'
    from generate_series(1, ${quota - 3}) n`;
  const responses = await Promise.all(
    Array.from({ length: 8 }, () => createUserClient(account).request("POST", "/api-keys", keyInput)),
  );
  expect(responses.map(({ status }) => status).sort()).toEqual([201, 201, 201, 403, 403, 403, 403, 403]);
});

describe("only administrators can create keys with", () => {
  test.each([
    ["the admin scope", { scopes: ["admin"] }],
    ["the right to act for other users", { service: true }],
  ])("%s", async (_, changedFields) => {
    expect(
      (await createUserClient(ben).requestProblem("POST", "/api-keys", { ...keyInput, ...changedFields })).code,
    ).toBe("forbidden");
    expect((await createKey(parley, root, changedFields)).service).toBe("service" in changedFields);
  });
});

test("managing keys with a key requires the admin scope", async () => {
  const limitedKey = await createKey(parley, root, { scopes: ["users:write", "conversations:write"] });
  for (const [method, path] of [
    ["POST", "/api-keys"],
    ["GET", "/api-keys"],
    ["GET", `/api-keys/${limitedKey.id}`],
    ["DELETE", `/api-keys/${limitedKey.id}`],
  ] as const)
    expect(
      (await createKeyClient(limitedKey.key).requestProblem(method, path, method === "POST" ? keyInput : undefined))
        .code,
    ).toBe("forbidden");
  const adminKey = await createKey(parley, root, { scopes: ["admin"] });
  const createdResponse = await createKeyClient(adminKey.key).request<CreatedApiKey>("POST", "/api-keys", {
    ...keyInput,
    scopes: ["admin"],
  });
  expect(createdResponse.status).toBe(201);
  expect((await createKeyClient(adminKey.key).request("DELETE", `/api-keys/${createdResponse.body.id}`)).status).toBe(
    204,
  );
});

describe("keys created with a key", () => {
  test("can't have administrator rights that their owner has lost", async () => {
    const formerAdmin = await registerAdmin(parley);
    const adminKey = await createKey(parley, formerAdmin, { scopes: ["admin"] });
    await parley.database`update users set role = 'user' where id = ${formerAdmin.user.id}`;
    expect(
      (await createKeyClient(adminKey.key).requestProblem("POST", "/api-keys", { ...keyInput, scopes: ["admin"] }))
        .code,
    ).toBe("forbidden");
    expect(
      (await createKeyClient(adminKey.key).requestProblem("POST", "/api-keys", { ...keyInput, service: true })).code,
    ).toBe("forbidden");
  });

  test("can act for other users only if the creating key can", async () => {
    const serviceInput = { ...keyInput, service: true };
    const adminKey = await createKey(parley, root, { scopes: ["admin"] });
    expect((await createKeyClient(adminKey.key).requestProblem("POST", "/api-keys", serviceInput)).code).toBe(
      "forbidden",
    );
    const serviceKey = await createKey(parley, root, { scopes: ["admin"], service: true });
    expect((await createKeyClient(serviceKey.key).request("POST", "/api-keys", serviceInput)).status).toBe(201);
  });

  test("can't outlive the creating key", async () => {
    const expiresAt = new Date(Date.now() + 3_600_000).toISOString();
    const laterExpiry = new Date(Date.parse(expiresAt) + 1).toISOString();
    const shortLivedKey = await createKey(parley, root, { scopes: ["admin"], expires_at: expiresAt });
    for (const expires_at of [undefined, null, laterExpiry])
      expect(
        (await createKeyClient(shortLivedKey.key).requestProblem("POST", "/api-keys", { ...keyInput, expires_at }))
          .code,
      ).toBe("forbidden");
    expect(
      (await createKeyClient(shortLivedKey.key).request("POST", "/api-keys", { ...keyInput, expires_at: expiresAt }))
        .status,
    ).toBe(201);
  });
});

test("a key can't create keys on behalf of another user", async () => {
  const serviceKey = await createKey(parley, root, { scopes: ["admin"], service: true });
  const headers = { "x-on-behalf-of": ben.user.id };
  const response = await createKeyClient(serviceKey.key).request<{ code: string }>(
    "POST",
    "/api-keys",
    keyInput,
    headers,
  );
  expect(response.body.code).toBe("forbidden");
  expect((await createUserClient(ben).get<{ data: unknown[] }>("/api-keys")).body.data).toEqual([]);
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

test("expired keys are listed for 30 days, then deleted", async () => {
  const account = await parley.register();
  const [oldKey, recentKey] = [await createKey(parley, account), await createKey(parley, account)];
  await parley.database`update api_keys set expires_at = now() - interval '31 days' where id = ${oldKey.id}`;
  await parley.database`update api_keys set expires_at = now() - interval '29 days' where id = ${recentKey.id}`;
  const { database } = parley;
  const service = createApiKeyService({
    database,
    audit: createAuditService(),
    quotas: { requireBelowLimit() {} },
    log: silentLog,
    onKeysDeleted() {},
  });
  expect(await service.deleteExpired()).toBe(1);
  const { data } = (await createUserClient(account).get<{ data: ApiKey[] }>("/api-keys")).body;
  expect(data.map(({ id }) => id)).toEqual([recentKey.id]);
});
