import { afterAll, beforeAll, expect, test } from "bun:test";
import type { SentMessage } from "../../src/modules/messages/model.ts";
import type { Message } from "../../src/protocol/message.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";
import { expectUndisturbed, measureDurations, whileLocked } from "./row-locks.ts";

let parley: TestApp;
let anna: RestClient;
let ben: RestClient;
let groupId: string;

beforeAll(async () => {
  parley = await startApp();
  anna = createRestClient(parley, await parley.register(undefined, "Anna"));
  ben = createRestClient(parley, await parley.register(undefined, "Ben"));
  groupId = (await createConversation(parley, anna.account, [ben.account])).id;
});
afterAll(() => parley.stop());

const postMessage = (rest: RestClient, content: string) =>
  rest.request<SentMessage>("POST", `/conversations/${groupId}/messages`, { content, reply: false });

test("a locked member delays no other user in the group, and the member's messages keep their order", async () => {
  const socket = await openSocket(parley.url, { token: anna.account.access_token });
  await measureDurations(300, () => postMessage(ben, "Warms up query plans."));
  const sentContents = Array.from({ length: 20 }, (_, n) => `${n}`);
  const lockStatement = "select 1 from members where conversation_id = $1 and user_id = $2 for update";
  const { acks, durationsMs } = await whileLocked(parley.database, lockStatement, [groupId, anna.id], async () => {
    const acks = sentContents.map((content, n) =>
      socket.request({
        type: "message.send",
        id: `l${n}`,
        conversation_id: groupId,
        client_message_id: `l${n}`,
        content,
        reply: false,
      }),
    );
    const durationsMs = await measureDurations(3_000, async () =>
      expect((await postMessage(ben, "hello")).status).toBe(201),
    );
    return { acks, durationsMs };
  });
  expectUndisturbed(durationsMs);
  expect((await Promise.all(acks)).map(({ type }) => type)).toEqual(sentContents.map(() => "ack"));
  const { body } = await anna.get<{ data: Message[] }>(`/conversations/${groupId}/messages?limit=200`);
  const annasMessages = body.data.filter(({ author }) => author?.id === anna.id);
  expect(annasMessages.map(({ content }) => content)).toEqual(sentContents);
}, 30_000);

test("a `read` that waits for a locked member returns the later position if one was stored meanwhile, or an error if the member left", async () => {
  const socket = await openSocket(parley.url, { token: ben.account.access_token });
  const { body } = await postMessage(anna, "one");
  const seq = (await postMessage(anna, "two")).body.message.seq;
  const sendRead = (id: string) =>
    socket.request({ type: "read", id, conversation_id: groupId, seq: body.message.seq });
  const readDuringChange = async (statement: string, id: string) => {
    const { response } = await parley.database.begin(async (sql) => {
      await sql.unsafe(statement, [groupId, ben.id]);
      const response = sendRead(id);
      await Bun.sleep(200);
      return { response };
    });
    return response;
  };
  const moveStatement = `update members set last_read_seq = ${seq} where conversation_id = $1 and user_id = $2`;
  expect(await readDuringChange(moveStatement, "r1")).toMatchObject({ type: "ack", last_read_seq: seq });
  await parley.database`update members set last_read_seq = 0 where conversation_id = ${groupId} and user_id = ${ben.id}`;
  const leaveStatement = "delete from members where conversation_id = $1 and user_id = $2";
  expect(await readDuringChange(leaveStatement, "r2")).toMatchObject({ type: "error", code: "not_found" });
});
