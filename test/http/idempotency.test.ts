import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { ProblemBody } from "../../src/http/problem-response.ts";
import { createId } from "../../src/lib/id.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { countLockWaits } from "../support/postgres-locks.ts";
import { createRestClient, type RestClient, type RestResponse } from "../support/rest.ts";

type Created = { id: string; title: string };

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let parley: TestApp;
let otherApp: TestApp;
let anna: RestClient;
let ben: RestClient;
let key: string;

beforeAll(async () => {
  database = await createTestDatabase();
  parley = await startApp({ database });
  otherApp = await startApp({ database });
  [anna, ben] = (await Promise.all([parley.register(), parley.register()])).map((account) =>
    createRestClient(parley, account),
  ) as [RestClient, RestClient];
});
beforeEach(() => {
  key = createId();
});
afterAll(async () => {
  await otherApp.stop();
  await parley.stop();
  await database.database.end();
});

const postWithKey = <T = Created>(
  user: RestClient,
  json: object,
  sentKey = key,
  path = "/conversations",
): Promise<RestResponse<T>> => user.request<T>("POST", path, json, { "idempotency-key": sentKey });
const isReplayed = ({ headers }: RestResponse<unknown>) => headers.get("idempotent-replayed") === "true";
const findByTitle = async (user: RestClient, title: string) =>
  (await user.listAll<Created>("/conversations", 200)).rows.filter((conversation) => conversation.title === title);
const countKeys = async () => (await parley.database`select 1 from idempotency_keys`).length;

/** Blocks the creation of conversations until the returned function is called. */
async function blockCreation(): Promise<() => Promise<void>> {
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  const { promise: locked, resolve: confirmLocked } = Promise.withResolvers<void>();
  const blockingTransaction = parley.database.begin(async (sql) => {
    await sql`lock table conversations in exclusive mode`;
    confirmLocked();
    await released;
  });
  await locked;
  return async () => {
    release();
    await blockingTransaction;
  };
}

async function waitForLock(): Promise<void> {
  for (let attempts = 0; (await countLockWaits(parley)) === 0; attempts += 1) {
    if (attempts > 300) throw new Error("No session is waiting for the lock.");
    await Bun.sleep(10);
  }
}

describe("a request repeated with the same key", () => {
  test("returns the first response, and doesn't run again", async () => {
    const firstResponse = await postWithKey(anna, { title: key });
    expect(firstResponse.status).toBe(201);
    expect(isReplayed(firstResponse)).toBe(false);
    const secondResponse = await postWithKey(anna, { title: key });
    expect(secondResponse.status).toBe(201);
    expect(isReplayed(secondResponse)).toBe(true);
    expect(secondResponse.body).toEqual(firstResponse.body);
    for (const name of ["location", "content-type", "x-content-type-options"])
      expect([name, secondResponse.headers.get(name)]).toEqual([name, firstResponse.headers.get(name) ?? "missing"]);
    expect(secondResponse.headers.get("x-request-id")).not.toBe(firstResponse.headers.get("x-request-id"));
    expect(await findByTitle(anna, key)).toHaveLength(1);
  });

  test("is recognized with or without quotes, with reordered fields, and on another instance", async () => {
    const firstResponse = await postWithKey(anna, { title: key, kind: "group" });
    const annaOnOther = createRestClient(otherApp, anna.account);
    for (const secondResponse of [
      await postWithKey(anna, { title: key, kind: "group" }, `"${key}"`),
      await postWithKey(anna, { kind: "group", title: key }),
      await postWithKey(annaOnOther, { title: key, kind: "group" }),
    ]) {
      expect(isReplayed(secondResponse)).toBe(true);
      expect(secondResponse.body).toEqual(firstResponse.body);
    }
  });

  test("is recognized in a different session of the same user", async () => {
    const firstResponse = await postWithKey(anna, { title: key });
    const { email } = anna.account.user;
    const login = await parley.fetch("/api/v1/auth/login", { json: { email, password: "correct horse battery" } });
    const annaInNewSession = createRestClient(parley, {
      ...anna.account,
      ...((await login.json()) as { access_token: string }),
    });
    expect((await postWithKey(annaInNewSession, { title: key })).body).toEqual(firstResponse.body);
  });

  test("returns the first response even if it was an error", async () => {
    const { id } = (await postWithKey<{ id: string }>(anna, {}, createId())).body;
    const path = `/conversations/${id}/members`;
    const stepDown = { user_id: anna.id, role: "member" };
    const firstResponse = await postWithKey<ProblemBody>(anna, stepDown, key, path);
    expect([firstResponse.status, firstResponse.body.code]).toEqual([409, "conflict"]);
    const secondResponse = await postWithKey<ProblemBody>(anna, stepDown, key, path);
    expect(secondResponse.body).toEqual(firstResponse.body);
    expect([secondResponse.status, isReplayed(secondResponse)]).toEqual([409, true]);
    expect(secondResponse.headers.get("content-type")).toBe("application/problem+json");
  });
});

describe("a key", () => {
  test("can't be used again with a different body or query", async () => {
    await postWithKey(anna, { title: key });
    const keysBefore = await countKeys();
    for (const [json, path] of [
      [{ title: `${key}!` }, "/conversations"],
      [{ title: key }, "/conversations?x=1"],
      [{}, "/conversations"],
    ] as const) {
      const { status, body } = await postWithKey<ProblemBody>(anna, json, key, path);
      expect([status, body.code]).toEqual([422, "idempotency_key_reused"]);
    }
    expect(await findByTitle(anna, `${key}!`)).toEqual([]);
    expect(await countKeys()).toBe(keysBefore);
  });

  test("can be used by another user, even with the same body", async () => {
    const annaResponse = await postWithKey(anna, { title: key });
    const benResponse = await postWithKey(ben, { title: key });
    expect([benResponse.status, isReplayed(benResponse)]).toEqual([201, false]);
    expect(benResponse.body.id).not.toBe(annaResponse.body.id);
    expect((await postWithKey<ProblemBody>(ben, { title: "other" })).body.code).toBe("idempotency_key_reused");
    expect((await ben.get(`/conversations/${annaResponse.body.id}`)).status).toBe(404);
  });

  test("can be used again with a different path", async () => {
    const { id } = (await postWithKey(anna, { title: key })).body;
    const promptResponse = await postWithKey<{ name: string }>(
      anna,
      { name: key, template: "Be brief." },
      key,
      "/prompts",
    );
    expect([promptResponse.status, isReplayed(promptResponse), promptResponse.body.name]).toEqual([201, false, key]);
    const memberResponse = await postWithKey(anna, { user_id: ben.id }, key, `/conversations/${id}/members`);
    expect([memberResponse.status, isReplayed(memberResponse)]).toEqual([201, false]);
  });

  test.each([
    ["two keys", "a, b"],
    ["an unclosed quote", '"a'],
    ["an empty key", ""],
    ["a key that is too long", "k".repeat(256)],
    ["non-ASCII text", "schl\u00fcssel"],
  ])("is rejected if it is invalid: %s", async (_, header) => {
    const { status, body } = await postWithKey<ProblemBody>(anna, { title: key }, header);
    expect([status, body.code]).toEqual([400, "malformed"]);
    expect(await findByTitle(anna, key)).toEqual([]);
  });
});

describe("concurrent requests with the same key", () => {
  test("receive 409 while the first request runs, and the first response afterwards", async () => {
    const unblockCreation = await blockCreation();
    const firstResponse = postWithKey(anna, { title: key });
    await waitForLock();
    const secondResponse = await postWithKey<ProblemBody>(anna, { title: key });
    expect([secondResponse.status, secondResponse.body.code]).toEqual([409, "idempotency_in_progress"]);
    expect(secondResponse.headers.get("retry-after")).toBe("1");
    // The payloads are compared before waiting, because waiting can't resolve a mismatch.
    expect((await postWithKey<ProblemBody>(anna, { title: "other" })).body.code).toBe("idempotency_key_reused");
    await unblockCreation();
    const { status, body } = await firstResponse;
    expect(status).toBe(201);
    expect((await postWithKey(anna, { title: key })).body).toEqual(body);
  });

  test("wait briefly for the first request to finish", async () => {
    const unblockCreation = await blockCreation();
    const firstResponse = postWithKey(anna, { title: key });
    await waitForLock();
    const secondResponse = postWithKey(createRestClient(otherApp, anna.account), { title: key });
    await Bun.sleep(200);
    await unblockCreation();
    expect((await secondResponse).body).toEqual((await firstResponse).body);
    expect(isReplayed(await secondResponse)).toBe(true);
  });

  test("run only once, even if 16 requests arrive on two instances", async () => {
    const annaOnOther = createRestClient(otherApp, anna.account);
    const responses = await Promise.all(
      Array.from({ length: 16 }, (_, n) => postWithKey(n % 2 === 0 ? anna : annaOnOther, { title: key })),
    );
    expect(responses.map(({ status }) => status)).toEqual(Array(16).fill(201));
    expect(new Set(responses.map(({ body }) => body.id)).size).toBe(1);
    expect(responses.filter((response) => !isReplayed(response))).toHaveLength(1);
    expect(await findByTitle(anna, key)).toHaveLength(1);
  });
});

describe("a response isn't stored", () => {
  test("if the body is invalid, so that the body can be corrected", async () => {
    expect((await postWithKey(anna, { title: 1 })).status).toBe(422);
    expect((await postWithKey(anna, { title: key })).status).toBe(201);
  });

  test("if the credentials are invalid", async () => {
    const keysBefore = await countKeys();
    const headers = { "idempotency-key": key };
    expect((await parley.fetch("/api/v1/conversations", { token: "no", json: {}, headers })).status).toBe(401);
    expect(await countKeys()).toBe(keysBefore);
  });

  test("after a server error, so that the request can be repeated", async () => {
    await parley.database`alter table prompts rename to renamed_prompts`;
    const prompt = { name: key, template: "Be brief." };
    const firstResponse = await postWithKey(anna, prompt, key, "/prompts");
    await parley.database`alter table renamed_prompts rename to prompts`;
    expect(firstResponse.status).toBe(500);
    const secondResponse = await postWithKey(anna, prompt, key, "/prompts");
    expect([secondResponse.status, isReplayed(secondResponse)]).toEqual([201, false]);
  });

  test("if the database is unavailable", async () => {
    const separateApp = await startApp();
    const carl = createRestClient(separateApp, await separateApp.register());
    expect((await postWithKey(carl, { title: key })).status).toBe(201);
    await separateApp.database.end();
    const { status, body } = await postWithKey<ProblemBody>(carl, { title: "other" }, createId());
    expect([status, body.code]).toEqual([503, "unavailable"]);
    await separateApp.stop();
  });
});

describe("no key is stored", () => {
  test("for a request without a key", async () => {
    const keysBefore = await countKeys();
    expect((await anna.request("POST", "/conversations", {})).status).toBe(201);
    expect(await countKeys()).toBe(keysBefore);
  });

  test("for a request that creates nothing or has a method other than POST", async () => {
    const keysBefore = await countKeys();
    const tickets = await Promise.all([1, 2].map(() => postWithKey<{ ticket: string }>(anna, {}, key, "/auth/ticket")));
    expect(new Set(tickets.map(({ body }) => body.ticket)).size).toBe(2);
    const { id } = (await anna.request<Created>("POST", "/conversations", {})).body;
    for (const title of ["one", "two"]) {
      const headers = { "idempotency-key": "not a key" };
      const changeResponse = await anna.request<Created>("PATCH", `/conversations/${id}`, { title }, headers);
      expect([changeResponse.status, changeResponse.body.title]).toEqual([200, title]);
    }
    expect(await countKeys()).toBe(keysBefore);
  });
});

describe("an API key", () => {
  test("is returned again if the request is repeated, and isn't stored in plain text", async () => {
    const json = { name: key, scopes: ["conversations:write"] };
    const firstResponse = await postWithKey<{ id: string; key: string }>(anna, json, key, "/api-keys");
    expect(firstResponse.status).toBe(201);
    expect(firstResponse.body.key).toMatch(/^pk_/);
    const secondResponse = await postWithKey<{ id: string; key: string }>(anna, json, key, "/api-keys");
    expect(secondResponse.body).toEqual(firstResponse.body);
    expect(secondResponse.headers.get("cache-control")).toBe("no-store");
    const rows = await parley.database<{ row: string }[]>`
      select encode(convert_to(k::text, 'UTF8'), 'hex') || encode(answer, 'hex') as row from idempotency_keys k`;
    expect(rows.length).toBeGreaterThan(0);
    for (const secret of [firstResponse.body.key, firstResponse.body.id, key])
      for (const { row } of rows) expect(row.includes(Buffer.from(secret).toString("hex"))).toBe(false);
  });

  test("has its own idempotency keys, separate from those of its owner and of other API keys", async () => {
    const annaResponse = await postWithKey(anna, { title: key });
    const conversationIds = new Set([annaResponse.body.id]);
    for (const name of ["one", "two"]) {
      const creationResponse = await anna.request<{ key: string }>("POST", "/api-keys", {
        name,
        scopes: ["conversations:write"],
      });
      const apiKeyClient = createRestClient(parley, { ...anna.account, access_token: creationResponse.body.key });
      const firstResponse = await postWithKey(apiKeyClient, { title: key });
      expect([firstResponse.status, isReplayed(firstResponse)]).toEqual([201, false]);
      expect((await postWithKey(apiKeyClient, { title: key })).body).toEqual(firstResponse.body);
      conversationIds.add(firstResponse.body.id);
    }
    expect(conversationIds.size).toBe(3);
  });
});

test("the keys of a deleted user are deleted", async () => {
  const account = await parley.register();
  const carl = createRestClient(parley, account);
  await postWithKey(carl, { title: key });
  const listKeyRows = () => parley.database`select 1 from idempotency_keys where user_id = ${account.user.id}`;
  expect(await listKeyRows()).toHaveLength(1);
  expect((await carl.request("DELETE", "/me", { current_password: "correct horse battery" })).status).toBe(204);
  expect(await listKeyRows()).toHaveLength(0);
});
