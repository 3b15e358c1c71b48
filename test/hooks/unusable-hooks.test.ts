import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import type { ProblemBody } from "../../src/http/problem-response.ts";
import type { CreatedHook } from "../../src/modules/hooks/model.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRest, type Rest } from "../support/rest.ts";
import { createHook, post } from "./start-hooks.ts";

let parley: TestApp;
let anna: Rest;
let ben: Rest;
let id: string;
let hook: CreatedHook;

beforeAll(async () => {
  parley = await startApp();
  anna = createRest(parley, await parley.register(undefined, "Anna"));
});
afterAll(() => parley.stop());

beforeEach(async () => {
  ben = createRest(parley, await parley.register(undefined, "Ben"));
  id = (await createConversation(parley, anna.account, [ben.account])).id;
  hook = await createHook(ben, id);
});

/** The response of every hook that may not post. */
async function expectNothing(token = hook.token): Promise<void> {
  for (const body of [{ content: "x" }, { text: "x" }, { bad: true }]) {
    const answer = await post<ProblemBody>(parley, { token }, body);
    expect(answer.body).toEqual({
      type: "/problems/not_found",
      title: "Not found",
      status: 404,
      detail: "Hook not found.",
      instance: expect.stringMatching(/^urn:request:/),
      code: "not_found",
      request_id: expect.any(String),
    });
    expect(JSON.stringify([answer.body, [...answer.headers]])).not.toContain(token);
  }
}

test("an unknown token returns 404: changed case, cut, longer or made up", async () => {
  const { token } = hook;
  await expectNothing(token.toUpperCase());
  await expectNothing(token.toLowerCase());
  await expectNothing(token.slice(0, -1));
  await expectNothing(`${token}x`);
  await expectNothing(`${token}%00`);
  await expectNothing(`hk_${"0".repeat(43)}`);
  await expectNothing(hook.id);
  await expectNothing("'; drop table hooks; --");
  expect((await post(parley, hook, { content: "x" })).status).toBe(201);
});

test("a deleted hook returns 404", async () => {
  await anna.request("DELETE", `/conversations/${id}/hooks/${hook.id}`);
  await expectNothing();
});

test("a hook of a deleted conversation returns 404", async () => {
  await anna.request("DELETE", `/conversations/${id}`);
  await expectNothing();
});

test("a hook whose creator left the conversation returns 404, even after they rejoin", async () => {
  await ben.request("DELETE", `/conversations/${id}/members/${ben.id}`);
  await expectNothing();
  await anna.request("POST", `/conversations/${id}/members`, { user_id: ben.id });
  await expectNothing();
});

test("a hook whose creator is a viewer returns 404 until they may write again", async () => {
  await anna.request("POST", `/conversations/${id}/members`, { user_id: ben.id, role: "viewer" });
  await expectNothing();
  await anna.request("POST", `/conversations/${id}/members`, { user_id: ben.id, role: "member" });
  expect((await post(parley, hook, { content: "x" })).status).toBe(201);
});

test("a hook of a disabled user returns 404", async () => {
  await parley.database`update users set disabled_at = now() where id = ${ben.id}`;
  await expectNothing();
});

test("a hook of a deleted user returns 404, and its messages stay", async () => {
  const { message } = (await post(parley, hook, { content: "stays" })).body;
  const { status } = await ben.request("DELETE", "/me", { current_password: "correct horse battery" });
  expect(status).toBeLessThan(300);
  await expectNothing();
  const { body } = await anna.get<{ data: object[] }>(`/conversations/${id}/messages`);
  expect(body.data).toContainEqual(message);
});

test("405 lists the allowed methods and doesn't repeat the token", async () => {
  const answer = await fetch(`${parley.url}/api/v1/hooks/${hook.token}`);
  expect(answer.status).toBe(405);
  expect(await answer.text()).not.toContain(hook.token);
});
