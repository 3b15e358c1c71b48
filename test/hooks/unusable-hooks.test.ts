import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import type { ProblemBody } from "../../src/http/problem-response.ts";
import type { CreatedHook } from "../../src/modules/hooks/model.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { createHook, postToHook } from "./start-hooks.ts";

let parley: TestApp;
let anna: RestClient;
let ben: RestClient;
let conversationId: string;
let hook: CreatedHook;

beforeAll(async () => {
  parley = await startApp();
  anna = createRestClient(parley, await parley.register(undefined, "Anna"));
});
afterAll(() => parley.stop());

beforeEach(async () => {
  ben = createRestClient(parley, await parley.register(undefined, "Ben"));
  conversationId = (await createConversation(parley, anna.account, [ben.account])).id;
  hook = await createHook(ben, conversationId);
});

/** Expects the response for a hook that doesn't exist. */
async function expectNotFound(token = hook.token): Promise<void> {
  for (const body of [{ content: "x" }, { text: "x" }, { bad: true }]) {
    const response = await postToHook<ProblemBody>(parley, { token }, body);
    expect(response.body).toEqual({
      type: "/problems/not_found",
      title: "Not found",
      status: 404,
      detail: "Hook not found.",
      instance: expect.stringMatching(/^urn:request:/),
      code: "not_found",
      request_id: expect.any(String),
    });
    expect(JSON.stringify([response.body, [...response.headers]])).not.toContain(token);
  }
}

test("an unknown or changed token returns 404", async () => {
  const { token } = hook;
  await expectNotFound(token.toUpperCase());
  await expectNotFound(token.toLowerCase());
  await expectNotFound(token.slice(0, -1));
  await expectNotFound(`${token}x`);
  await expectNotFound(`${token}%00`);
  await expectNotFound(`hk_${"0".repeat(43)}`);
  await expectNotFound(hook.id);
  await expectNotFound("'; drop table hooks; --");
  expect((await postToHook(parley, hook, { content: "x" })).status).toBe(201);
});

test("a deleted hook returns 404", async () => {
  await anna.request("DELETE", `/conversations/${conversationId}/hooks/${hook.id}`);
  await expectNotFound();
});

test("a deleted conversation's hook returns 404", async () => {
  await anna.request("DELETE", `/conversations/${conversationId}`);
  await expectNotFound();
});

test("a hook whose creator left the conversation returns 404, even after the creator rejoins", async () => {
  await ben.request("DELETE", `/conversations/${conversationId}/members/${ben.id}`);
  await expectNotFound();
  await anna.request("POST", `/conversations/${conversationId}/members`, { user_id: ben.id });
  await expectNotFound();
});

test("a hook whose creator is a viewer returns 404 until the creator can write again", async () => {
  await anna.request("POST", `/conversations/${conversationId}/members`, { user_id: ben.id, role: "viewer" });
  await expectNotFound();
  await anna.request("POST", `/conversations/${conversationId}/members`, { user_id: ben.id, role: "member" });
  expect((await postToHook(parley, hook, { content: "x" })).status).toBe(201);
});

test("a disabled user's hook returns 404", async () => {
  await parley.database`update users set disabled_at = now() where id = ${ben.id}`;
  await expectNotFound();
});

test("a deleted user's hook returns 404, and its messages are kept", async () => {
  const { message } = (await postToHook(parley, hook, { content: "stays" })).body;
  const { status } = await ben.request("DELETE", "/me", { current_password: "correct horse battery" });
  expect(status).toBeLessThan(300);
  await expectNotFound();
  const { body } = await anna.get<{ data: object[] }>(`/conversations/${conversationId}/messages`);
  expect(body.data).toContainEqual(message);
});

test("an unsupported method returns 405, without the token in the response", async () => {
  const response = await fetch(`${parley.url}/api/v1/hooks/${hook.token}`);
  expect(response.status).toBe(405);
  expect(await response.text()).not.toContain(hook.token);
});
