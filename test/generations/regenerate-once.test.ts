import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import type { Account } from "../support/app.ts";
import { openSocket } from "../support/socket.ts";
import { type Asking, startAsking } from "./start-asking.ts";

let asking: Asking;
let anna: Account;
let ben: Account;
let id: string;
beforeAll(async () => {
  asking = await startAsking();
  [anna, ben] = [await asking.parley.register(), await asking.parley.register()];
});
beforeEach(async () => {
  asking.provider.reset();
  id = (await asking.createConversation(anna, [ben], { kind: "group" })).id;
});
afterAll(() => asking.stop());

const slow = { text: "Slow.", firstDelayMs: 700 };
const regenerate = async (account: Account, messageId: string) => {
  const path = `/api/v1/conversations/${id}/messages/${messageId}/regenerate`;
  const answer = await asking.parley.fetch(path, { method: "POST", token: account.access_token });
  const { code } = (await answer.json()) as { code?: string };
  return { status: answer.status, code };
};
const count = (all: { status: number }[], status: number) => all.filter((each) => each.status === status).length;

test("of several who have the same question answered again, one runs and the others get 409", async () => {
  asking.provider.script("one", { text: "First." }, slow);
  const { message, reply } = await asking.say(anna, id, "What is it?");
  const names = [message.id, reply?.id ?? "", message.id, reply?.id ?? ""];
  const all = await Promise.all(names.map((name, n) => regenerate(n % 2 === 0 ? anna : ben, name)));
  expect([count(all, 201), count(all, 409)]).toEqual([1, 3]);
  expect(all.filter(({ status }) => status === 409).every(({ code }) => code === "conflict")).toBe(true);
  await asking.until(() => (asking.provider.requestsOf("one").length === 2 ? true : undefined));
  // The answer that is being written has another sibling, which is named here.
  expect((await regenerate(ben, reply?.id ?? "")).status).toBe(409);
  await asking.until(async () => {
    const rows = await asking.parley
      .database`select 1 from messages where conversation_id = ${id} and status = 'streaming'`;
    return rows.length === 0 ? true : undefined;
  });
  expect(asking.provider.requestsOf("one")).toHaveLength(2);
  expect((await regenerate(ben, message.id)).status).toBe(201);
});

test("so do frames, also while the first answer is being written", async () => {
  asking.provider.script("one", slow);
  const socket = await openSocket(asking.parley.url, { token: anna.access_token });
  const sent = await socket.ask({
    type: "message.send",
    conversation_id: id,
    client_message_id: "once",
    content: "What is it?",
    reply: true,
  });
  const message_id = (sent.message as { id: string }).id;
  expect(await socket.ask({ type: "generation.regenerate", message_id })).toMatchObject({ code: "conflict" });
  await asking.until(async () => {
    const rows = await asking.parley.database`
      select 1 from messages where conversation_id = ${id} and status = 'complete' and role = 'assistant'`;
    return rows.length === 1 ? true : undefined;
  });
  const frames = [1, 2].map(() => socket.ask({ type: "generation.regenerate", message_id }));
  expect((await Promise.all(frames)).map(({ type }) => type).sort()).toEqual(["ack", "error"]);
  await socket.close();
});

test("two questions of one conversation are answered again at the same time", async () => {
  asking.provider.script("one", { text: "First." }, { text: "Second." }, slow);
  const one = await asking.say(anna, id, "What is it?");
  const two = await asking.say(anna, id, "And that?");
  const all = await Promise.all([regenerate(anna, one.message.id), regenerate(anna, two.message.id)]);
  expect(count(all, 201)).toBe(2);
});
