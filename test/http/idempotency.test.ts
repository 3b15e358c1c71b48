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

const create = <T = Created>(
  user: RestClient,
  json: object,
  sentKey = key,
  path = "/conversations",
): Promise<RestResponse<T>> => user.request<T>("POST", path, json, { "idempotency-key": sentKey });
const isReplayed = ({ headers }: RestResponse<unknown>) => headers.get("idempotent-replayed") === "true";
const findByTitle = async (user: RestClient, title: string) =>
  (await user.listAll<Created>("/conversations", 200)).rows.filter((conversation) => conversation.title === title);
const countKeys = async () => (await parley.database`select 1 from idempotency_keys`).length;

/** Blocks creating conversations until the returned function is called. */
async function blockCreation(): Promise<() => Promise<void>> {
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  const { promise: locked, resolve: onLocked } = Promise.withResolvers<void>();
  const blocking = parley.database.begin(async (sql) => {
    await sql`lock table conversations in exclusive mode`;
    onLocked();
    await released;
  });
  await locked;
  return async () => {
    release();
    await blocking;
  };
}

async function waitForLock(): Promise<void> {
  for (let attempts = 0; (await countLockWaits(parley)) === 0; attempts += 1) {
    if (attempts > 300) throw new Error("No session waits for the lock.");
    await Bun.sleep(10);
  }
}

describe("a request repeated with its key", () => {
  test("returns the first response, and doesn't run again", async () => {
    const first = await create(anna, { title: key });
    expect(first.status).toBe(201);
    expect(isReplayed(first)).toBe(false);
    const second = await create(anna, { title: key });
    expect(second.status).toBe(201);
    expect(isReplayed(second)).toBe(true);
    expect(second.body).toEqual(first.body);
    for (const name of ["location", "content-type", "x-content-type-options"])
      expect([name, second.headers.get(name)]).toEqual([name, first.headers.get(name) ?? "missing"]);
    expect(second.headers.get("x-request-id")).not.toBe(first.headers.get("x-request-id"));
    expect(await findByTitle(anna, key)).toHaveLength(1);
  });

  test("is recognized with or without quotes, with reordered fields, and on another instance", async () => {
    const first = await create(anna, { title: key, kind: "group" });
    const annaOnOther = createRestClient(otherApp, anna.account);
    for (const second of [
      await create(anna, { title: key, kind: "group" }, `"${key}"`),
      await create(anna, { kind: "group", title: key }),
      await create(annaOnOther, { title: key, kind: "group" }),
    ]) {
      expect(isReplayed(second)).toBe(true);
      expect(second.body).toEqual(first.body);
    }
  });

  test("is recognized in another of the user's sessions", async () => {
    const first = await create(anna, { title: key });
    const { email } = anna.account.user;
    const login = await parley.fetch("/api/v1/auth/login", { json: { email, password: "correct horse battery" } });
    const annaInNewSession = createRestClient(parley, {
      ...anna.account,
      ...((await login.json()) as { access_token: string }),
    });
    expect((await create(annaInNewSession, { title: key })).body).toEqual(first.body);
  });

  test("returns the first response even if it was an error", async () => {
    const { id } = (await create<{ id: string }>(anna, {}, createId())).body;
    const path = `/conversations/${id}/members`;
    const stepDown = { user_id: anna.id, role: "member" };
    const first = await create<ProblemBody>(anna, stepDown, key, path);
    expect([first.status, first.body.code]).toEqual([409, "conflict"]);
    const second = await create<ProblemBody>(anna, stepDown, key, path);
    expect(second.body).toEqual(first.body);
    expect([second.status, isReplayed(second)]).toEqual([409, true]);
    expect(second.headers.get("content-type")).toBe("application/problem+json");
  });
});

describe("a key belongs to one request:", () => {
  test("a request with another body or query is rejected", async () => {
    await create(anna, { title: key });
    const before = await countKeys();
    for (const [json, path] of [
      [{ title: `${key}!` }, "/conversations"],
      [{ title: key }, "/conversations?x=1"],
      [{}, "/conversations"],
    ] as const) {
      const { status, body } = await create<ProblemBody>(anna, json, key, path);
      expect([status, body.code]).toEqual([422, "idempotency_key_reused"]);
    }
    expect(await findByTitle(anna, `${key}!`)).toEqual([]);
    expect(await countKeys()).toBe(before);
  });

  test("a request from another user with the same key and body is separate", async () => {
    const annaConversation = await create(anna, { title: key });
    const benConversation = await create(ben, { title: key });
    expect([benConversation.status, isReplayed(benConversation)]).toEqual([201, false]);
    expect(benConversation.body.id).not.toBe(annaConversation.body.id);
    expect((await create<ProblemBody>(ben, { title: "other" })).body.code).toBe("idempotency_key_reused");
    expect((await ben.get(`/conversations/${annaConversation.body.id}`)).status).toBe(404);
  });

  test("a request to another path is separate", async () => {
    const { id } = (await create(anna, { title: key })).body;
    const prompt = await create<{ name: string }>(anna, { name: key, template: "Be brief." }, key, "/prompts");
    expect([prompt.status, isReplayed(prompt), prompt.body.name]).toEqual([201, false, key]);
    const member = await create(anna, { user_id: ben.id }, key, `/conversations/${id}/members`);
    expect([member.status, isReplayed(member)]).toEqual([201, false]);
  });

  test.each([
    ["two keys", "a, b"],
    ["an unclosed quote", '"a'],
    ["an empty key", ""],
    ["a key that is too long", "k".repeat(256)],
    ["non-ASCII text", "schl\u00fcssel"],
  ])("an invalid key returns 400: %s", async (_, header) => {
    const { status, body } = await create<ProblemBody>(anna, { title: key }, header);
    expect([status, body.code]).toEqual([400, "malformed"]);
    expect(await findByTitle(anna, key)).toEqual([]);
  });
});

describe("concurrent requests", () => {
  test("get 409 while the first one runs, and its response afterwards", async () => {
    const release = await blockCreation();
    const first = create(anna, { title: key });
    await waitForLock();
    const second = await create<ProblemBody>(anna, { title: key });
    expect([second.status, second.body.code]).toEqual([409, "idempotency_in_progress"]);
    expect(second.headers.get("retry-after")).toBe("1");
    // The payloads are compared before waiting, because waiting can't resolve a mismatch.
    expect((await create<ProblemBody>(anna, { title: "other" })).body.code).toBe("idempotency_key_reused");
    await release();
    const { status, body } = await first;
    expect(status).toBe(201);
    expect((await create(anna, { title: key })).body).toEqual(body);
  });

  test("wait briefly for the first one to finish", async () => {
    const release = await blockCreation();
    const first = create(anna, { title: key });
    await waitForLock();
    const second = create(createRestClient(otherApp, anna.account), { title: key });
    await Bun.sleep(200);
    await release();
    expect((await second).body).toEqual((await first).body);
    expect(isReplayed(await second)).toBe(true);
  });

  test("run once even if 16 arrive on two instances", async () => {
    const annaOnOther = createRestClient(otherApp, anna.account);
    const responses = await Promise.all(
      Array.from({ length: 16 }, (_, n) => create(n % 2 === 0 ? anna : annaOnOther, { title: key })),
    );
    expect(responses.map(({ status }) => status)).toEqual(Array(16).fill(201));
    expect(new Set(responses.map(({ body }) => body.id)).size).toBe(1);
    expect(responses.filter((response) => !isReplayed(response))).toHaveLength(1);
    expect(await findByTitle(anna, key)).toHaveLength(1);
  });
});

describe("a response isn't stored", () => {
  test("if the body is invalid, so that it can be corrected", async () => {
    expect((await create(anna, { title: 1 })).status).toBe(422);
    expect((await create(anna, { title: key })).status).toBe(201);
  });

  test("if the credentials are invalid", async () => {
    const before = await countKeys();
    const headers = { "idempotency-key": key };
    expect((await parley.fetch("/api/v1/conversations", { token: "no", json: {}, headers })).status).toBe(401);
    expect(await countKeys()).toBe(before);
  });

  test("after a server error, so that the request can be repeated", async () => {
    await parley.database`alter table prompts rename to renamed_prompts`;
    const prompt = { name: key, template: "Be brief." };
    const first = await create(anna, prompt, key, "/prompts");
    await parley.database`alter table renamed_prompts rename to prompts`;
    expect(first.status).toBe(500);
    const second = await create(anna, prompt, key, "/prompts");
    expect([second.status, isReplayed(second)]).toEqual([201, false]);
  });

  test("if the database is unavailable", async () => {
    const separateApp = await startApp();
    const carl = createRestClient(separateApp, await separateApp.register());
    expect((await create(carl, { title: key })).status).toBe(201);
    await separateApp.database.end();
    const { status, body } = await create<ProblemBody>(carl, { title: "other" }, createId());
    expect([status, body.code]).toEqual([503, "unavailable"]);
    await separateApp.stop();
  });
});

describe("no key is stored", () => {
  test("for a request without a key", async () => {
    const before = await countKeys();
    expect((await anna.request("POST", "/conversations", {})).status).toBe(201);
    expect(await countKeys()).toBe(before);
  });

  test("for a request that creates nothing or has a method other than POST", async () => {
    const before = await countKeys();
    const tickets = await Promise.all([1, 2].map(() => create<{ ticket: string }>(anna, {}, key, "/auth/ticket")));
    expect(new Set(tickets.map(({ body }) => body.ticket)).size).toBe(2);
    const { id } = (await anna.request<Created>("POST", "/conversations", {})).body;
    for (const title of ["one", "two"]) {
      const headers = { "idempotency-key": "not a key" };
      const changeResponse = await anna.request<Created>("PATCH", `/conversations/${id}`, { title }, headers);
      expect([changeResponse.status, changeResponse.body.title]).toEqual([200, title]);
    }
    expect(await countKeys()).toBe(before);
  });
});

describe("an API key", () => {
  test("is returned again if the request is repeated, and isn't stored in plain text", async () => {
    const json = { name: key, scopes: ["conversations:write"] };
    const first = await create<{ id: string; key: string }>(anna, json, key, "/api-keys");
    expect(first.status).toBe(201);
    expect(first.body.key).toMatch(/^pk_/);
    const second = await create<{ id: string; key: string }>(anna, json, key, "/api-keys");
    expect(second.body).toEqual(first.body);
    expect(second.headers.get("cache-control")).toBe("no-store");
    const rows = await parley.database<{ row: string }[]>`
      select encode(convert_to(k::text, 'UTF8'), 'hex') || encode(answer, 'hex') as row from idempotency_keys k`;
    expect(rows.length).toBeGreaterThan(0);
    for (const secret of [first.body.key, first.body.id, key])
      for (const { row } of rows) expect(row.includes(Buffer.from(secret).toString("hex"))).toBe(false);
  });

  test("has its own idempotency keys, separate from those of its owner and of other API keys", async () => {
    const annaConversation = await create(anna, { title: key });
    const conversationIds = new Set([annaConversation.body.id]);
    for (const name of ["one", "two"]) {
      const created = await anna.request<{ key: string }>("POST", "/api-keys", {
        name,
        scopes: ["conversations:write"],
      });
      const machine = createRestClient(parley, { ...anna.account, access_token: created.body.key });
      const first = await create(machine, { title: key });
      expect([first.status, isReplayed(first)]).toEqual([201, false]);
      expect((await create(machine, { title: key })).body).toEqual(first.body);
      conversationIds.add(first.body.id);
    }
    expect(conversationIds.size).toBe(3);
  });
});

test("the keys of a deleted user are deleted", async () => {
  const account = await parley.register();
  const carl = createRestClient(parley, account);
  await create(carl, { title: key });
  const listKeyRows = () => parley.database`select 1 from idempotency_keys where user_id = ${account.user.id}`;
  expect(await listKeyRows()).toHaveLength(1);
  expect((await carl.request("DELETE", "/me", { current_password: "correct horse battery" })).status).toBe(204);
  expect(await listKeyRows()).toHaveLength(0);
});
