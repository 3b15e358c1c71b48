import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { type Database, openDatabase } from "../../src/db/client.ts";
import type { SentMessage } from "../../src/modules/messages/model.ts";
import type { Message } from "../../src/protocol/message.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { openSocket, type TestSocket } from "../support/socket.ts";
import { listReceivedEvents, loadVerifiedLog } from "./log.ts";

let instances: TestApp[];
let pools: Database[];
let accounts: Account[];
let conversationIds: string[];

beforeAll(async () => {
  const testDatabase = await createTestDatabase();
  const secondPool = openDatabase({ target: testDatabase.target, poolSize: 10 });
  pools = [testDatabase.database, secondPool];
  instances = await Promise.all(pools.map((database) => startApp({ database: { ...testDatabase, database } })));
  const [firstApp] = instances as [TestApp, TestApp];
  accounts = await Promise.all(["Anna", "Ben"].map((name) => firstApp.register(undefined, name)));
});
afterAll(async () => {
  for (const instance of instances) await instance.stop();
  for (const pool of pools) await pool.end();
});
beforeEach(async () => {
  const [firstApp] = instances as [TestApp, TestApp];
  const [anna, ben] = accounts as [Account, Account];
  conversationIds = await Promise.all([1, 2, 3].map(async () => (await createConversation(firstApp, anna, [ben])).id));
});

const openSocketPerInstance = (account: Account) =>
  Promise.all(instances.map((instance) => openSocket(instance.url, { token: account.access_token })));
const createInstanceRest = (instance: number): RestClient =>
  createRestClient(instances[instance] as TestApp, accounts[0] as Account);

describe("two instances on one database", () => {
  test("assign gapless seqs in the same conversations, and never deadlock", async () => {
    const sockets = (await Promise.all(accounts.map(openSocketPerInstance))).flat();
    const messagesPerSocket = 150;
    const responses = sockets.map(async (socket, sender) => {
      for (let n = 0; n < messagesPerSocket; n += 1) {
        // Each socket sends to the conversations in a different order.
        const conversation_id = conversationIds[(n * (sender % 2 ? 1 : 2) + sender) % conversationIds.length];
        socket.send({
          type: "message.send",
          id: `${n}`,
          conversation_id,
          content: `${sender}/${n}`,
          client_message_id: `${sender}/${n}`,
        });
        if (n % 25 === 24) await socket.waitFor((frame) => frame.id === `${n}`);
      }
      // Acks from different conversations can arrive out of order, because messages to a locked conversation wait separately.
      for (let n = 0; n < messagesPerSocket; n += 1) await socket.waitFor((frame) => frame.id === `${n}`);
      return socket.frames.filter(({ type }) => type !== "ready");
    });
    for (const frames of await Promise.all(responses))
      expect(frames.map(({ type }) => type)).toEqual(Array.from({ length: messagesPerSocket }, () => "ack"));
    const [firstApp] = instances as [TestApp, TestApp];
    let storedCount = 0;
    for (const id of conversationIds) {
      const log = await loadVerifiedLog(firstApp, id);
      storedCount += log.filter(({ type }) => type === "message.created").length;
      const rows = await firstApp.database<Message[]>`
        select content, seq from messages where conversation_id = ${id} order by seq`;
      for (const sender of sockets.keys()) {
        const numbers = rows.flatMap(({ content }) =>
          content.startsWith(`${sender}/`) ? Number(content.split("/")[1]) : [],
        );
        expect(numbers).toEqual([...numbers].sort((a, b) => a - b));
      }
    }
    expect(storedCount).toBe(messagesPerSocket * sockets.length);
    const [row] = await firstApp.database`select deadlocks from pg_stat_database where datname = current_database()`;
    expect(row?.deadlocks).toBe(0);
    for (const socket of sockets) await socket.close();
  });

  test("return the same message each time it is resent, whichever instance receives it first", async () => {
    const [id = ""] = conversationIds;
    const requests = Array.from({ length: 30 }, async (_, n) => {
      const input = { content: `${n}`, client_message_id: `same ${n % 5}`, reply: n % 2 === 0 };
      return createInstanceRest(n % 2).request<SentMessage>("POST", `/conversations/${id}/messages`, input);
    });
    const responses = await Promise.all(requests);
    expect(responses.map(({ status }) => status)).toEqual(responses.map(() => 201));
    for (const group of Map.groupBy(responses, ({ body }) => body.message.client_message_id).values()) {
      expect(new Set(group.map(({ body }) => JSON.stringify(body.message))).size).toBe(1);
      expect(new Set(group.map(({ body }) => body.reply?.id ?? null)).size).toBe(1);
    }
    const [firstApp] = instances as [TestApp, TestApp];
    await loadVerifiedLog(firstApp, id);
    const userMessages =
      await firstApp.database`select 1 from messages where conversation_id = ${id} and role = 'user'`;
    expect(userMessages).toHaveLength(5);
  });

  test("push each other's messages even without a bus, once a gap before their own next message reveals them", async () => {
    const [id = ""] = conversationIds;
    const [firstSocket, secondSocket] = (await openSocketPerInstance(accounts[1] as Account)) as [
      TestSocket,
      TestSocket,
    ];
    for (const socket of [firstSocket, secondSocket])
      await socket.request({ type: "subscribe", conversation_id: id, after_seq: 0 });
    for (let n = 0; n < 20; n += 1)
      await createInstanceRest(1).request("POST", `/conversations/${id}/messages`, { content: `${n}`, reply: false });
    await createInstanceRest(0).request("PATCH", `/conversations/${id}`, { title: "here" });
    const log = await loadVerifiedLog(instances[0] as TestApp, id);
    await firstSocket.waitFor((frame) => frame.seq === log.length);
    expect(listReceivedEvents(firstSocket.frames, id)).toEqual(log);
    expect(listReceivedEvents(secondSocket.frames, id)).toEqual(log.slice(0, -1));
    for (const socket of [firstSocket, secondSocket]) await socket.close();
  });
});
