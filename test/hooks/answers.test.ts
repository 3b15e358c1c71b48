import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { ProblemBody } from "../../src/http/problem-response.ts";
import type { SentMessage } from "../../src/modules/messages/model.ts";
import { type ModelApp, startModelApp } from "../generations/start-model-app.ts";
import type { Account } from "../support/app.ts";
import { createRestClient } from "../support/rest.ts";
import { createHook, postToHook } from "./start-hooks.ts";

let app: ModelApp;
let anna: Account;

beforeAll(async () => {
  app = await startModelApp({ BUDGET_USER_TOKENS_PER_DAY: "100000", AI_PRICES: "compatible/one=1/1" });
  anna = await app.parley.register(undefined, "Anna");
});
afterAll(() => app.stop());
beforeEach(() => app.provider.reset());

async function waitForReply({ message, reply }: Pick<SentMessage, "message" | "reply">) {
  const id = reply?.id ?? "";
  return app.waitForValue(async () => {
    const path = `/api/v1/conversations/${message.conversation_id}/messages/${id}`;
    const answer = (await (await app.parley.fetch(path, { token: anna.access_token })).json()) as { status: string };
    return answer.status === "streaming" ? undefined : answer;
  });
}
const getSpentTokens = async () => {
  const [row] = await app.parley.database<{ tokens: number }[]>`
    select coalesce(sum(spent_tokens), 0)::int as tokens from budget_windows
    where scope_id = ${anna.user.id} and period = 'day'`;
  return row?.tokens ?? 0;
};

describe("a post sent to a model", () => {
  test("is a user message with the integration's name, and is charged to the hook's creator", async () => {
    const { id } = await app.createConversation(anna, [], { reply_mode: "never" });
    const hook = await createHook(createRestClient(app.parley, anna), id);
    await app.sendMessage(anna, id, "What is going on?", { reply: false });
    const tokensBefore = await getSpentTokens();
    const sendResult = (await postToHook(app.parley, hook, { content: "Build 7 is red", reply: true })).body;
    expect(sendResult.reply).toMatchObject({
      role: "assistant",
      status: "streaming",
      parent_id: sendResult.message.id,
    });
    expect(await waitForReply(sendResult)).toMatchObject({ status: "complete" });
    expect(app.getReceivedMessages()).toEqual([
      { role: "user", content: "What is going on?\n\nDeployments: Build 7 is red" },
    ]);
    await app.waitForValue(async () => ((await getSpentTokens()) > tokensBefore ? true : undefined));
  });

  test("is sent with the integration's name when a later message in a group is answered", async () => {
    const { id } = await app.createConversation(anna, [], { kind: "group", reply_mode: "never" });
    const hook = await createHook(createRestClient(app.parley, anna), id);
    await postToHook(app.parley, hook, { content: "Build 8 is red", display_name: "Robot" });
    await app.sendMessage(anna, id, "Why?");
    expect(app.getReceivedMessages().at(-1)).toEqual({
      role: "user",
      content: "Robot: Build 8 is red\n\nAnna: Why?",
    });
    // A branch includes the post too.
    const { message } = await app.sendMessage(anna, id, "Aside", { reply: false });
    await app.sendMessage(anna, id, "Not this way", { reply: false });
    await app.sendMessage(anna, id, "And now?", { parent_id: message.id });
    expect(app.getReceivedMessages().at(-1)?.content).not.toContain("Not this way");
    expect(JSON.stringify(app.getReceivedMessages())).toContain("Robot: Build 8 is red");
  });

  test("in Slack's format is answered if the conversation's reply mode is `always`", async () => {
    const { id } = await app.createConversation(anna, [], { reply_mode: "always" });
    const hook = await createHook(createRestClient(app.parley, anna), id);
    expect((await postToHook<string>(app.parley, hook, { text: "Hello?" })).body).toBe("ok");
    await app.waitForValue(() => (app.getReceivedMessages().length > 0 ? true : undefined));
    expect(app.getReceivedMessages()).toEqual([{ role: "user", content: "Deployments: Hello?" }]);
    await postToHook(app.parley, hook, { text: "Not this one", reply: false });
    expect(app.provider.listRequests("one")).toHaveLength(1);
  });

  test("is answered once if it is repeated", async () => {
    const { id } = await app.createConversation(anna, [], { reply_mode: "never" });
    const hook = await createHook(createRestClient(app.parley, anna), id);
    const postOnce = () => postToHook(app.parley, hook, { content: "x", reply: true }, { "webhook-id": "msg_1" });
    const firstResult = (await postOnce()).body;
    await waitForReply(firstResult);
    const repeatedResult = (await postOnce()).body;
    expect(repeatedResult.reply?.id).toBe(String(firstResult.reply?.id));
    expect(app.provider.listRequests("one")).toHaveLength(1);
  });

  test("is rejected if the hook's creator has no budget left", async () => {
    const userWithoutBudget = await app.parley.register();
    const { id } = await app.createConversation(userWithoutBudget, [], { reply_mode: "never" });
    const hook = await createHook(createRestClient(app.parley, userWithoutBudget), id);
    await postToHook(app.parley, hook, { content: "x", reply: true });
    await app.parley.database`
      update budget_windows set spent_tokens = 100000 where scope_id = ${userWithoutBudget.user.id} and period = 'day'`;
    const response = await postToHook<ProblemBody>(app.parley, hook, { content: "y", reply: true });
    expect([response.status, response.body.code]).toEqual([429, "budget_exceeded"]);
    expect((await postToHook(app.parley, hook, { content: "z", reply: false })).status).toBe(201);
    const [row] = await app.parley.database<{ count: number }[]>`
      select count(*)::int as count from messages where conversation_id = ${id} and role = 'user'`;
    expect(row?.count).toBe(2);
  });
});
