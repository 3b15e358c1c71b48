import { afterAll, beforeAll, expect, test } from "bun:test";
import type { SentMessage } from "../../src/modules/messages/model.ts";
import type { Message } from "../../src/protocol/message.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";
import { expectUndisturbed, measure, whileLocked } from "./row-locks.ts";

let parley: TestApp;
let anna: RestClient;
let ben: RestClient;
let group: string;

beforeAll(async () => {
  parley = await startApp();
  anna = createRestClient(parley, await parley.register(undefined, "Anna"));
  ben = createRestClient(parley, await parley.register(undefined, "Ben"));
  group = (await createConversation(parley, anna.account, [ben.account])).id;
});
afterAll(() => parley.stop());

const send = (rest: RestClient, content: string) =>
  rest.request<SentMessage>("POST", `/conversations/${group}/messages`, { content, reply: false });

test("a locked member delays no other user in the group, and the member's messages keep their order", async () => {
  const socket = await openSocket(parley.url, { token: anna.account.access_token });
  await measure(300, () => send(ben, "Warms up query plans."));
  const sent = Array.from({ length: 20 }, (_, n) => `${n}`);
  const lock = "select 1 from members where conversation_id = $1 and user_id = $2 for update";
  const { acks, durationsMs } = await whileLocked(parley.database, lock, [group, anna.id], async () => {
    const acks = sent.map((content, n) =>
      socket.request({
        type: "message.send",
        id: `l${n}`,
        conversation_id: group,
        client_message_id: `l${n}`,
        content,
        reply: false,
      }),
    );
    const durationsMs = await measure(3_000, async () => expect((await send(ben, "hello")).status).toBe(201));
    return { acks, durationsMs };
  });
  expectUndisturbed(durationsMs);
  expect((await Promise.all(acks)).map(({ type }) => type)).toEqual(sent.map(() => "ack"));
  const { body } = await anna.get<{ data: Message[] }>(`/conversations/${group}/messages?limit=200`);
  const annasMessages = body.data.filter(({ author }) => author?.id === anna.id);
  expect(annasMessages.map(({ content }) => content)).toEqual(sent);
}, 30_000);

test("a `read` that waits for a locked member returns a concurrently stored later position, or an error if the member left", async () => {
  const socket = await openSocket(parley.url, { token: ben.account.access_token });
  const { body } = await send(anna, "one");
  const seq = (await send(anna, "two")).body.message.seq;
  const read = (id: string) => socket.request({ type: "read", id, conversation_id: group, seq: body.message.seq });
  const change = async (statement: string, id: string) => {
    const { response } = await parley.database.begin(async (sql) => {
      await sql.unsafe(statement, [group, ben.id]);
      const response = read(id);
      await Bun.sleep(200);
      return { response };
    });
    return response;
  };
  const move = `update members set last_read_seq = ${seq} where conversation_id = $1 and user_id = $2`;
  expect(await change(move, "r1")).toMatchObject({ type: "ack", last_read_seq: seq });
  await parley.database`update members set last_read_seq = 0 where conversation_id = ${group} and user_id = ${ben.id}`;
  const leave = "delete from members where conversation_id = $1 and user_id = $2";
  expect(await change(leave, "r2")).toMatchObject({ type: "error", code: "not_found" });
});
