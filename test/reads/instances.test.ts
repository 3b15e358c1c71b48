import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Conversation } from "../../src/protocol/conversation.ts";
import type { Message } from "../../src/protocol/message.ts";
import type { Bus } from "../../src/realtime/bus.ts";
import { createMemoryBus } from "../../src/realtime/bus-memory.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { linkBuses } from "../support/linked-buses.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createRest } from "../support/rest.ts";
import { waitUntil } from "../support/wait-until.ts";

type Database = Awaited<ReturnType<typeof createTestDatabase>>;
let database: Database;
let unlinked: [TestApp, TestApp];
let linked: [TestApp, TestApp];
const link = linkBuses();
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

async function say(app: TestApp, id: string, content: string): Promise<Message> {
  const answer = await createRest(app, anna).request<{ message: Message }>("POST", `/conversations/${id}/messages`, {
    content,
    reply: false,
  });
  return answer.body.message;
}

const read = async (app: TestApp, account: Account, id: string): Promise<Message[]> =>
  (await createRest(app, account).get<{ data: Message[] }>(`/conversations/${id}/messages`)).body.data;

const titleOf = async (app: TestApp, id: string): Promise<string> =>
  (await createRest(app, anna).get<Conversation>(`/conversations/${id}`)).body.title;

test("without a bus, instances cache a history page briefly, and never serve an old one", async () => {
  const [one, other] = unlinked;
  const { id } = await createConversation(one, anna, [ben]);
  const message = await say(one, id, "First");
  const hits = await countHits(one, "history_page");
  // A page is cached for a second, and a busy machine may need longer.
  while ((await countHits(one, "history_page")) === hits)
    for (const account of [anna, ben]) expect(await read(one, account, id)).toEqual([message]);
  expect(await countHits(one, "history")).toBe(0);

  const second = await say(other, id, "Second");
  expect(await read(one, ben, id)).toEqual([message, second]);
  await createRest(other, anna).request("PATCH", `/conversations/${id}/messages/${message.id}`, { content: "Edited" });
  expect((await read(one, ben, id)).map(({ content }) => content)).toEqual(["Edited", "Second"]);
  await createRest(other, anna).request("PATCH", "/me", { display_name: "Annabel" });
  expect((await read(one, ben, id))[0]?.author?.display_name).toBe("Annabel");
  await createRest(other, anna).request("PATCH", "/me", { display_name: "Anna" });
  expect((await read(one, ben, id))[0]?.author?.display_name).toBe("Anna");
});

test("a cached page is for members only: not for outsiders, nor for members removed on another instance", async () => {
  const [one, other] = unlinked;
  const { id } = await createConversation(one, anna, [ben]);
  await say(one, id, "First");
  expect(await read(one, ben, id)).toHaveLength(1);
  const stranger = createRest(one, await one.register());
  expect((await stranger.get(`/conversations/${id}/messages`)).status).toBe(404);
  await createRest(other, anna).request("DELETE", `/conversations/${id}/members/${ben.user.id}`);
  expect((await createRest(one, ben).get(`/conversations/${id}/messages`)).status).toBe(404);
});

test("without a bus, a conversation and the list are always read from the database", async () => {
  const [one, other] = unlinked;
  const { id } = await createConversation(one, anna, [], { title: "Before" });
  for (const title of ["One", "Two", "Three"]) {
    await createRest(other, anna).request("PATCH", `/conversations/${id}`, { title });
    expect(await titleOf(one, id)).toBe(title);
    const { body } = await createRest(one, anna).get<{ data: Conversation[] }>("/conversations");
    expect(body.data[0]?.title).toBe(title);
  }
});

test("with a bus, a change on one instance is visible on the other at once", async () => {
  const [one, other] = linked;
  const { id } = await createConversation(one, anna, [], { title: "Before" });
  for (const title of ["One", "Two", "Three"]) {
    await titleOf(one, id);
    await createRest(other, anna).request("PATCH", `/conversations/${id}`, { title });
    expect(await titleOf(one, id)).toBe(title);
  }
});

for (const isAlone of [true, false])
  test(`a direct SQL change becomes visible in a history that is read all the time, ${isAlone ? "alone" : "with other instances"}`, async () => {
    const one = await startApp({ database, isAlone });
    const { id } = await createConversation(one, anna, [ben]);
    await say(one, id, "Before");
    expect((await read(one, anna, id))[0]?.content).toBe("Before");
    await database.database`update messages set content = 'After' where conversation_id = ${id}`;
    await waitUntil(async () => {
      const pages = [await read(one, anna, id), await read(one, ben, id)];
      return pages.every(([message]) => message?.content === "After");
    });
    await one.stop();
  });

test("an instance caches responses only while its bus is certain about its peers", async () => {
  let isAlone = true;
  const memory = createMemoryBus({ log: silentLog });
  const bus: Bus = { ...memory, scope: "instances", isAlone: () => isAlone };
  const one = await startApp({ database, bus });
  const { id } = await createConversation(one, anna, [], { title: "Before" });
  const readUntilHit = async () => {
    for (let hits = await countHits(one, "conversation"); (await countHits(one, "conversation")) === hits; )
      await titleOf(one, id);
  };
  const changeElsewhere = async (title: string) => {
    await createRest(unlinked[0], anna).request("PATCH", `/conversations/${id}`, { title });
    expect(await titleOf(one, id)).toBe(title);
  };
  await readUntilHit();
  isAlone = false;
  await changeElsewhere("Not alone");
  isAlone = true;
  bus.publish("users", () => [{ type: "prompts.released" }]);
  await readUntilHit();
  isAlone = false;
  await changeElsewhere("Not alone again");
  await one.stop();
});

test("while the bus is cut, and after the gap, nothing is served from the cache", async () => {
  const [one, other] = linked;
  const { id } = await createConversation(one, anna, [], { title: "Before" });
  await titleOf(one, id);
  link.cut();
  await createRest(other, anna).request("PATCH", `/conversations/${id}`, { title: "Missed" });
  expect(await titleOf(one, id)).toBe("Missed");
  await createRest(other, anna).request("PATCH", `/conversations/${id}`, { title: "Missed too" });
  link.restore();
  expect(await titleOf(one, id)).toBe("Missed too");
});
