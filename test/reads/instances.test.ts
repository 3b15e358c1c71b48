import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Conversation } from "../../src/protocol/conversation.ts";
import type { Message } from "../../src/protocol/message.ts";
import type { Bus } from "../../src/realtime/bus.ts";
import { createMemoryBus } from "../../src/realtime/bus-memory.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createLinkedBuses } from "../support/linked-buses.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createRestClient } from "../support/rest.ts";
import { waitUntil } from "../support/wait-until.ts";

type Database = Awaited<ReturnType<typeof createTestDatabase>>;
let database: Database;
let unlinkedInstances: [TestApp, TestApp];
let linkedInstances: [TestApp, TestApp];
const link = createLinkedBuses();
let anna: Account;
let ben: Account;

beforeAll(async () => {
  database = await createTestDatabase();
  unlinkedInstances = [await startApp({ database }), await startApp({ database })];
  linkedInstances = [
    await startApp({ database, bus: link.buses[0] }),
    await startApp({ database, bus: link.buses[1] }),
  ];
  anna = await unlinkedInstances[0].register(undefined, "Anna");
  ben = await unlinkedInstances[0].register(undefined, "Ben");
});
afterAll(async () => {
  for (const app of [...unlinkedInstances, ...linkedInstances]) await app.stop();
  await database.database.end({ timeout: 1 });
});

async function countHits({ metrics }: TestApp, cache: string): Promise<number> {
  const { values } = await metrics.cacheRequests.get();
  return values.find(({ labels }) => labels.cache === cache && labels.result === "hit")?.value ?? 0;
}

async function sendMessage(app: TestApp, id: string, content: string): Promise<Message> {
  const response = await createRestClient(app, anna).request<{ message: Message }>(
    "POST",
    `/conversations/${id}/messages`,
    {
      content,
      reply: false,
    },
  );
  return response.body.message;
}

const listMessages = async (app: TestApp, account: Account, id: string): Promise<Message[]> =>
  (await createRestClient(app, account).get<{ data: Message[] }>(`/conversations/${id}/messages`)).body.data;

const getTitle = async (app: TestApp, id: string): Promise<string> =>
  (await createRestClient(app, anna).get<Conversation>(`/conversations/${id}`)).body.title;

test("without a bus, instances cache history pages briefly and never return a stale page", async () => {
  const [instance, otherInstance] = unlinkedInstances;
  const { id } = await createConversation(instance, anna, [ben]);
  const message = await sendMessage(instance, id, "First");
  const hitCountBefore = await countHits(instance, "history_page");
  // Repeats the reads, because a cached page expires after a second, which can be too early on a busy machine.
  while ((await countHits(instance, "history_page")) === hitCountBefore)
    for (const account of [anna, ben]) expect(await listMessages(instance, account, id)).toEqual([message]);
  expect(await countHits(instance, "history")).toBe(0);

  const secondMessage = await sendMessage(otherInstance, id, "Second");
  expect(await listMessages(instance, ben, id)).toEqual([message, secondMessage]);
  await createRestClient(otherInstance, anna).request("PATCH", `/conversations/${id}/messages/${message.id}`, {
    content: "Edited",
  });
  expect((await listMessages(instance, ben, id)).map(({ content }) => content)).toEqual(["Edited", "Second"]);
  await createRestClient(otherInstance, anna).request("PATCH", "/me", { display_name: "Annabel" });
  expect((await listMessages(instance, ben, id))[0]?.author?.display_name).toBe("Annabel");
  await createRestClient(otherInstance, anna).request("PATCH", "/me", { display_name: "Anna" });
  expect((await listMessages(instance, ben, id))[0]?.author?.display_name).toBe("Anna");
});

test("a cached page is not returned to outsiders or to members removed on another instance", async () => {
  const [instance, otherInstance] = unlinkedInstances;
  const { id } = await createConversation(instance, anna, [ben]);
  await sendMessage(instance, id, "First");
  expect(await listMessages(instance, ben, id)).toHaveLength(1);
  const outsider = createRestClient(instance, await instance.register());
  expect((await outsider.get(`/conversations/${id}/messages`)).status).toBe(404);
  await createRestClient(otherInstance, anna).request("DELETE", `/conversations/${id}/members/${ben.user.id}`);
  expect((await createRestClient(instance, ben).get(`/conversations/${id}/messages`)).status).toBe(404);
});

test("without a bus, conversations and the conversation list are always read from the database", async () => {
  const [instance, otherInstance] = unlinkedInstances;
  const { id } = await createConversation(instance, anna, [], { title: "Before" });
  for (const title of ["One", "Two", "Three"]) {
    await createRestClient(otherInstance, anna).request("PATCH", `/conversations/${id}`, { title });
    expect(await getTitle(instance, id)).toBe(title);
    const { body } = await createRestClient(instance, anna).get<{ data: Conversation[] }>("/conversations");
    expect(body.data[0]?.title).toBe(title);
  }
});

test("with a bus, a change on one instance is immediately visible on the other", async () => {
  const [instance, otherInstance] = linkedInstances;
  const { id } = await createConversation(instance, anna, [], { title: "Before" });
  for (const title of ["One", "Two", "Three"]) {
    await getTitle(instance, id);
    await createRestClient(otherInstance, anna).request("PATCH", `/conversations/${id}`, { title });
    expect(await getTitle(instance, id)).toBe(title);
  }
});

for (const isAlone of [true, false])
  test(`${isAlone ? "a single instance" : "one of several instances"} returns a message changed directly by SQL, even if its history is read continuously`, async () => {
    const instance = await startApp({ database, isAlone });
    const { id } = await createConversation(instance, anna, [ben]);
    await sendMessage(instance, id, "Before");
    expect((await listMessages(instance, anna, id))[0]?.content).toBe("Before");
    await database.database`update messages set content = 'After' where conversation_id = ${id}`;
    await waitUntil(async () => {
      const pages = [await listMessages(instance, anna, id), await listMessages(instance, ben, id)];
      return pages.every(([message]) => message?.content === "After");
    });
    await instance.stop();
  });

test("an instance caches responses only while its bus reports that it is alone", async () => {
  let isAlone = true;
  const memory = createMemoryBus({ log: silentLog });
  const bus: Bus = { ...memory, scope: "instances", isAlone: () => isAlone };
  const instance = await startApp({ database, bus });
  const { id } = await createConversation(instance, anna, [], { title: "Before" });
  const readUntilHit = async () => {
    for (let hits = await countHits(instance, "conversation"); (await countHits(instance, "conversation")) === hits; )
      await getTitle(instance, id);
  };
  const changeElsewhere = async (title: string) => {
    await createRestClient(unlinkedInstances[0], anna).request("PATCH", `/conversations/${id}`, { title });
    expect(await getTitle(instance, id)).toBe(title);
  };
  await readUntilHit();
  isAlone = false;
  await changeElsewhere("Not alone");
  isAlone = true;
  bus.publish("users", () => [{ type: "prompts.released" }]);
  await readUntilHit();
  isAlone = false;
  await changeElsewhere("Not alone again");
  await instance.stop();
});

test("an instance doesn't use its cache while the bus is disconnected, or serve stale data after the bus reconnects", async () => {
  const [instance, otherInstance] = linkedInstances;
  const { id } = await createConversation(instance, anna, [], { title: "Before" });
  await getTitle(instance, id);
  link.cut();
  await createRestClient(otherInstance, anna).request("PATCH", `/conversations/${id}`, { title: "Missed" });
  expect(await getTitle(instance, id)).toBe("Missed");
  await createRestClient(otherInstance, anna).request("PATCH", `/conversations/${id}`, { title: "Missed too" });
  link.restore();
  expect(await getTitle(instance, id)).toBe("Missed too");
});
