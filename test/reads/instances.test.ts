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
let unlinked: [TestApp, TestApp];
let linked: [TestApp, TestApp];
const link = createLinkedBuses();
let anna: Account;
let ben: Account;

beforeAll(async () => {
  database = await createTestDatabase();
  unlinked = [await startApp({ database }), await startApp({ database })];
  linked = [await startApp({ database, bus: link.buses[0] }), await startApp({ database, bus: link.buses[1] })];
  anna = await unlinked[0].register(undefined, "Anna");
  ben = await unlinked[0].register(undefined, "Ben");
});
afterAll(async () => {
  for (const app of [...unlinked, ...linked]) await app.stop();
  await database.database.end({ timeout: 1 });
});

async function countHits({ metrics }: TestApp, cache: string): Promise<number> {
  const { values } = await metrics.cacheRequests.get();
  return values.find(({ labels }) => labels.cache === cache && labels.result === "hit")?.value ?? 0;
}

async function send(app: TestApp, id: string, content: string): Promise<Message> {
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

const read = async (app: TestApp, account: Account, id: string): Promise<Message[]> =>
  (await createRestClient(app, account).get<{ data: Message[] }>(`/conversations/${id}/messages`)).body.data;

const readTitle = async (app: TestApp, id: string): Promise<string> =>
  (await createRestClient(app, anna).get<Conversation>(`/conversations/${id}`)).body.title;

test("without a bus, instances cache history pages briefly and never serve a stale one", async () => {
  const [instance, other] = unlinked;
  const { id } = await createConversation(instance, anna, [ben]);
  const message = await send(instance, id, "First");
  const hits = await countHits(instance, "history_page");
  // Repeats the reads, because a cached page expires after a second, which can be too early on a busy machine.
  while ((await countHits(instance, "history_page")) === hits)
    for (const account of [anna, ben]) expect(await read(instance, account, id)).toEqual([message]);
  expect(await countHits(instance, "history")).toBe(0);

  const second = await send(other, id, "Second");
  expect(await read(instance, ben, id)).toEqual([message, second]);
  await createRestClient(other, anna).request("PATCH", `/conversations/${id}/messages/${message.id}`, {
    content: "Edited",
  });
  expect((await read(instance, ben, id)).map(({ content }) => content)).toEqual(["Edited", "Second"]);
  await createRestClient(other, anna).request("PATCH", "/me", { display_name: "Annabel" });
  expect((await read(instance, ben, id))[0]?.author?.display_name).toBe("Annabel");
  await createRestClient(other, anna).request("PATCH", "/me", { display_name: "Anna" });
  expect((await read(instance, ben, id))[0]?.author?.display_name).toBe("Anna");
});

test("a cached page is not returned to outsiders or to members removed on another instance", async () => {
  const [instance, other] = unlinked;
  const { id } = await createConversation(instance, anna, [ben]);
  await send(instance, id, "First");
  expect(await read(instance, ben, id)).toHaveLength(1);
  const outsider = createRestClient(instance, await instance.register());
  expect((await outsider.get(`/conversations/${id}/messages`)).status).toBe(404);
  await createRestClient(other, anna).request("DELETE", `/conversations/${id}/members/${ben.user.id}`);
  expect((await createRestClient(instance, ben).get(`/conversations/${id}/messages`)).status).toBe(404);
});

test("without a bus, conversations and the conversation list are always read from the database", async () => {
  const [instance, other] = unlinked;
  const { id } = await createConversation(instance, anna, [], { title: "Before" });
  for (const title of ["One", "Two", "Three"]) {
    await createRestClient(other, anna).request("PATCH", `/conversations/${id}`, { title });
    expect(await readTitle(instance, id)).toBe(title);
    const { body } = await createRestClient(instance, anna).get<{ data: Conversation[] }>("/conversations");
    expect(body.data[0]?.title).toBe(title);
  }
});

test("with a bus, a change on one instance is immediately visible on the other", async () => {
  const [instance, other] = linked;
  const { id } = await createConversation(instance, anna, [], { title: "Before" });
  for (const title of ["One", "Two", "Three"]) {
    await readTitle(instance, id);
    await createRestClient(other, anna).request("PATCH", `/conversations/${id}`, { title });
    expect(await readTitle(instance, id)).toBe(title);
  }
});

for (const isAlone of [true, false])
  test(`${isAlone ? "a single instance" : "one of several instances"} returns a message changed directly by SQL, even if its history is read continuously`, async () => {
    const instance = await startApp({ database, isAlone });
    const { id } = await createConversation(instance, anna, [ben]);
    await send(instance, id, "Before");
    expect((await read(instance, anna, id))[0]?.content).toBe("Before");
    await database.database`update messages set content = 'After' where conversation_id = ${id}`;
    await waitUntil(async () => {
      const pages = [await read(instance, anna, id), await read(instance, ben, id)];
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
      await readTitle(instance, id);
  };
  const changeElsewhere = async (title: string) => {
    await createRestClient(unlinked[0], anna).request("PATCH", `/conversations/${id}`, { title });
    expect(await readTitle(instance, id)).toBe(title);
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
  const [instance, other] = linked;
  const { id } = await createConversation(instance, anna, [], { title: "Before" });
  await readTitle(instance, id);
  link.cut();
  await createRestClient(other, anna).request("PATCH", `/conversations/${id}`, { title: "Missed" });
  expect(await readTitle(instance, id)).toBe("Missed");
  await createRestClient(other, anna).request("PATCH", `/conversations/${id}`, { title: "Missed too" });
  link.restore();
  expect(await readTitle(instance, id)).toBe("Missed too");
});
