import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import { HOOKS_PER_CONVERSATION_MAX } from "../../src/modules/hooks/limits.ts";
import type { CreatedHook, Hook } from "../../src/modules/hooks/model.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { createHook, postToHook } from "./start-hooks.ts";

let parley: TestApp;
let anna: RestClient;
let ben: RestClient;
let carl: RestClient;
let conversationId: string;
let hooksPath: string;

beforeAll(async () => {
  parley = await startApp({ config: { PUBLIC_URL: "https://chat.example.com/" } });
  const accounts = await Promise.all(["Anna", "Ben", "Carl"].map((name) => parley.register(undefined, name)));
  [anna, ben, carl] = accounts.map((account) => createRestClient(parley, account)) as [
    RestClient,
    RestClient,
    RestClient,
  ];
});
afterAll(() => parley.stop());

beforeEach(async () => {
  conversationId = (await createConversation(parley, anna.account, [ben.account, carl.account])).id;
  hooksPath = `/conversations/${conversationId}/hooks`;
  await anna.request("POST", `/conversations/${conversationId}/members`, { user_id: carl.id, role: "viewer" });
});

const listHooks = async (user: RestClient) => (await user.get<{ data: Hook[] }>(hooksPath)).body.data;

describe("a new hook", () => {
  test("is created with a URL and a token, which are never returned again", async () => {
    const { status, body } = await anna.request<CreatedHook>("POST", hooksPath, { name: " CI " });
    expect(status).toBe(201);
    const { token } = body;
    const listedHook = {
      id: expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-7/),
      conversation_id: conversationId,
      user_id: anna.id,
      name: "CI",
      signed: false,
      last_four: token.slice(-4),
      created_at: expect.any(String),
    };
    expect(token).toMatch(/^hk_[0-9A-Za-z]{43}$/);
    expect(body).toEqual({ ...listedHook, token, url: `https://chat.example.com/api/v1/hooks/${token}` });
    const hooks = await listHooks(anna);
    expect(hooks).toEqual([listedHook]);
    const storedHookJson = JSON.stringify(
      await parley.database`select *, encode(token_hash, 'escape') from hooks where id = ${body.id}`,
    );
    expect(storedHookJson).not.toContain(token.slice(3, -4));
  });

  test("has a secret if it is signed, and the secret is stored encrypted and never returned again", async () => {
    const hook = await createHook(anna, conversationId, { signed: true });
    expect(hook.secret).toMatch(/^whsec_[\w+/]{43}=$/);
    expect(await listHooks(anna)).toMatchObject([{ signed: true }]);
    expect((await listHooks(anna))[0]).not.toHaveProperty("secret");
    const key = Buffer.from(String(hook.secret).slice(6), "base64");
    const [row] = await parley.database<{ secret: Buffer }[]>`select secret from hooks where id = ${hook.id}`;
    expect(row?.secret.includes(key)).toBe(false);
  });

  test("requires a single-line name", async () => {
    for (const name of ["", "  ", "a\nb", "x".repeat(81), undefined])
      expect(await anna.requestProblem("POST", hooksPath, { name })).toMatchObject({ code: "invalid" });
  });

  test("is rejected if the conversation has the maximum number of hooks", async () => {
    await parley.database`
      insert into hooks (id, conversation_id, user_id, name, token_hash, last_four)
      select gen_random_uuid(), ${conversationId}, ${anna.id}, 'x', sha256((${conversationId}::text || n)::bytea), 'xxxx'
      from generate_series(2, ${HOOKS_PER_CONVERSATION_MAX}::int) n`;
    await createHook(anna, conversationId);
    expect(await anna.requestProblem("POST", hooksPath, { name: "x" })).toMatchObject({ code: "conflict" });
    const { rows, pages } = await anna.listAll<Hook>(hooksPath, 60);
    expect(new Set(rows.map((hook) => hook.id)).size).toBe(HOOKS_PER_CONVERSATION_MAX);
    expect(pages).toEqual([60, 40]);
  });
});

describe("a conversation's hooks", () => {
  test("can be created by members who can write, and are visible only to their creators and the owners", async () => {
    const annaHook = await createHook(anna, conversationId);
    const benHook = await createHook(ben, conversationId);
    expect(await carl.requestProblem("POST", hooksPath, { name: "x" })).toMatchObject({ code: "forbidden" });
    expect((await listHooks(anna)).map((hook) => hook.id)).toEqual([annaHook.id, benHook.id]);
    expect((await listHooks(ben)).map((hook) => hook.id)).toEqual([benHook.id]);
    expect(await listHooks(carl)).toEqual([]);
    expect(await ben.requestProblem("DELETE", `${hooksPath}/${annaHook.id}`)).toMatchObject({ code: "not_found" });
    expect((await ben.request("DELETE", `${hooksPath}/${benHook.id}`)).status).toBe(204);
    expect((await anna.request("DELETE", `${hooksPath}/${annaHook.id}`)).status).toBe(204);
    expect(await anna.requestProblem("DELETE", `${hooksPath}/${annaHook.id}`)).toMatchObject({ code: "not_found" });
  });

  test("can't be managed through a different conversation or by outsiders, who receive 404", async () => {
    const hook = await createHook(anna, conversationId);
    const otherId = (await createConversation(parley, anna.account)).id;
    expect(await anna.requestProblem("DELETE", `/conversations/${otherId}/hooks/${hook.id}`)).toMatchObject({
      code: "not_found",
    });
    const outsider = createRestClient(parley, await parley.register());
    for (const [method, requestPath, input] of [
      ["GET", hooksPath],
      ["POST", hooksPath, { name: "x" }],
      ["DELETE", `${hooksPath}/${hook.id}`],
    ] as const)
      expect(await outsider.requestProblem(method, requestPath, input)).toMatchObject({
        code: "not_found",
        detail: "Conversation not found.",
      });
    expect(await listHooks(anna)).toHaveLength(1);
  });

  test("are recorded in the audit log", async () => {
    const hook = await createHook(anna, conversationId);
    await anna.request("DELETE", `${hooksPath}/${hook.id}`);
    const rows = await parley.database`
      select action, actor_id, target_type, details from audit_events where target_id = ${hook.id} order by id`;
    expect([...rows]).toEqual([
      {
        action: "hook.created",
        actor_id: anna.id,
        target_type: "hook",
        details: { conversation_id: conversationId, signed: false },
      },
      { action: "hook.deleted", actor_id: anna.id, target_type: "hook", details: { conversation_id: conversationId } },
    ]);
  });

  test("are part of their creator's export", async () => {
    const hook = await createHook(ben, conversationId, { name: "Ben's hook" });
    const { body } = await ben.get<{ hooks: object[] }>("/me/export");
    expect(body.hooks).toContainEqual(expect.objectContaining({ id: hook.id, name: "Ben's hook", is_signed: false }));
    expect(JSON.stringify(body)).not.toContain(hook.token);
  });
});

test("an API key can create a hook only if it can write messages and never expires", async () => {
  const createApiKeyClient = async (scopes: string[], expires_at: string | null) => {
    const { body } = await anna.request<{ key: string }>("POST", "/api-keys", { name: createId(), scopes, expires_at });
    return createRestClient(parley, { ...anna.account, access_token: body.key });
  };
  const scopes = ["conversations:write", "messages:write"];
  const weakKey = await createApiKeyClient(["conversations:write"], null);
  const expiringKey = await createApiKeyClient(scopes, new Date(Date.now() + 60_000).toISOString());
  const validKey = await createApiKeyClient(scopes, null);
  expect(await weakKey.requestProblem("POST", hooksPath, { name: "x" })).toMatchObject({ code: "forbidden" });
  expect(await expiringKey.requestProblem("POST", hooksPath, { name: "x" })).toMatchObject({ code: "forbidden" });
  const hook = await createHook(validKey, conversationId);
  expect((await postToHook(parley, hook, { content: "hello" })).status).toBe(201);
});
