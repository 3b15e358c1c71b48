import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { ProblemBody } from "../../src/http/problem-response.ts";
import type { SentMessage } from "../../src/modules/messages/model.ts";
import { type ModelApp, startModelApp } from "../generations/start-model-app.ts";
import type { Account } from "../support/app.ts";
import { createRest } from "../support/rest.ts";
import { createHook, post } from "./start-hooks.ts";

let asking: ModelApp;
let anna: Account;

beforeAll(async () => {
  asking = await startModelApp({ BUDGET_USER_TOKENS_PER_DAY: "100000", AI_PRICES: "compatible/one=1/1" });
  anna = await asking.parley.register(undefined, "Anna");
});
afterAll(() => asking.stop());
beforeEach(() => asking.provider.reset());

async function waitForReply({ message, reply }: Pick<SentMessage, "message" | "reply">) {
  const id = reply?.id ?? "";
  return asking.waitUntil(async () => {
    const path = `/api/v1/conversations/${message.conversation_id}/messages/${id}`;
    const found = (await (await asking.parley.fetch(path, { token: anna.access_token })).json()) as { status: string };
    return found.status === "streaming" ? undefined : found;
  });
}
const spent = async () => {
  const [row] = await asking.parley.database<{ tokens: number }[]>`
    select coalesce(sum(spent_tokens), 0)::int as tokens from budget_windows
    where scope_id = ${anna.user.id} and period = 'day'`;
  return row?.tokens ?? 0;
};

describe("a post that a model answers", () => {
  test("is sent to the model as a user message with the integration's name, and charged to the hook's creator", async () => {
    const { id } = await asking.createConversation(anna, [], { reply_mode: "never" });
    const hook = await createHook(createRest(asking.parley, anna), id);
    await asking.say(anna, id, "What is going on?", { reply: false });
    const before = await spent();
    const sent = (await post(asking.parley, hook, { content: "Build 7 is red", reply: true })).body;
    expect(sent.reply).toMatchObject({ role: "assistant", status: "streaming", parent_id: sent.message.id });
    expect(await waitForReply(sent)).toMatchObject({ status: "complete" });
    expect(asking.readReceived()).toEqual([
      { role: "user", content: "What is going on?\n\nDeployments: Build 7 is red" },
    ]);
    await asking.waitUntil(async () => ((await spent()) > before ? true : undefined));
  });

  test("is sent the same way in a group, and with later messages", async () => {
    const { id } = await asking.createConversation(anna, [], { kind: "group", reply_mode: "never" });
    const hook = await createHook(createRest(asking.parley, anna), id);
    await post(asking.parley, hook, { content: "Build 8 is red", display_name: "Robot" });
    await asking.say(anna, id, "Why?");
    expect(asking.readReceived().at(-1)).toEqual({ role: "user", content: "Robot: Build 8 is red\n\nAnna: Why?" });
    // Also along a branch.
    const { message } = await asking.say(anna, id, "Aside", { reply: false });
    await asking.say(anna, id, "Not this way", { reply: false });
    await asking.say(anna, id, "And now?", { parent_id: message.id });
    expect(asking.readReceived().at(-1)?.content).not.toContain("Not this way");
    expect(JSON.stringify(asking.readReceived())).toContain("Robot: Build 8 is red");
  });

  test("in Slack's format gets an answer if the conversation's reply mode says so", async () => {
    const { id } = await asking.createConversation(anna, [], { reply_mode: "always" });
    const hook = await createHook(createRest(asking.parley, anna), id);
    expect((await post<string>(asking.parley, hook, { text: "Hello?" })).body).toBe("ok");
    await asking.waitUntil(() => (asking.readReceived().length > 0 ? true : undefined));
    expect(asking.readReceived()).toEqual([{ role: "user", content: "Deployments: Hello?" }]);
    await post(asking.parley, hook, { text: "Not this one", reply: false });
    expect(asking.provider.requestsOf("one")).toHaveLength(1);
  });

  test("is answered once if it is repeated", async () => {
    const { id } = await asking.createConversation(anna, [], { reply_mode: "never" });
    const hook = await createHook(createRest(asking.parley, anna), id);
    const once = () => post(asking.parley, hook, { content: "x", reply: true }, { "webhook-id": "msg_1" });
    const first = (await once()).body;
    await waitForReply(first);
    const again = (await once()).body;
    expect(again.reply?.id).toBe(String(first.reply?.id));
    expect(asking.provider.requestsOf("one")).toHaveLength(1);
  });

  test("is refused and not posted if the hook's creator has no budget left", async () => {
    const poor = await asking.parley.register();
    const { id } = await asking.createConversation(poor, [], { reply_mode: "never" });
    const hook = await createHook(createRest(asking.parley, poor), id);
    await post(asking.parley, hook, { content: "x", reply: true });
    await asking.parley.database`
      update budget_windows set spent_tokens = 100000 where scope_id = ${poor.user.id} and period = 'day'`;
    const answer = await post<ProblemBody>(asking.parley, hook, { content: "y", reply: true });
    expect([answer.status, answer.body.code]).toEqual([429, "budget_exceeded"]);
    expect((await post(asking.parley, hook, { content: "z", reply: false })).status).toBe(201);
    const [row] = await asking.parley.database<{ count: number }[]>`
      select count(*)::int as count from messages where conversation_id = ${id} and role = 'user'`;
    expect(row?.count).toBe(2);
  });
});
