import { afterAll, beforeAll, test } from "bun:test";
import fc from "fast-check";
import type { Message } from "../../src/protocol/message.ts";
import { createConversation } from "../support/conversation.ts";
import { configurePropertyTests, scaleRuns } from "../support/property-tests.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { openSocket, type TestSocket } from "../support/socket.ts";
import { type InstancePair, startInstancePair } from "./start-instance-pair.ts";

configurePropertyTests();

const PERSON_COUNT = 3;
const CONVERSATION_COUNT = 2;
let pair: InstancePair;
const people: RestClient[] = [];
const sockets: TestSocket[] = [];

beforeAll(async () => {
  pair = await startInstancePair();
  for (let n = 0; n < PERSON_COUNT; n += 1) {
    const account = await pair.cachedInstance.register(undefined, `Person ${n}`);
    people.push(createRestClient(pair.cachedInstance, account));
    sockets.push(await openSocket(pair.cachedInstance.url, { token: account.access_token }));
  }
});
afterAll(async () => {
  for (const socket of sockets) await socket.close();
  await pair.stop();
});

const kinds = ["send", "edit", "delete", "read", "title", "add", "role", "remove", "name", "create"] as const;
/** A change by `actor` in a conversation. Some kinds of changes affect `target`. `readers` read during the change. */
const arbitraryStep = fc.record({
  kind: fc.constantFrom(...kinds),
  actor: fc.nat(PERSON_COUNT - 1),
  target: fc.nat(PERSON_COUNT - 1),
  conversation: fc.nat(CONVERSATION_COUNT - 1),
  readers: fc.array(fc.nat(PERSON_COUNT - 1), { maxLength: 4 }),
});
type Step = Parameters<Parameters<(typeof arbitraryStep)["map"]>[0]>[0];

const getPerson = (n: number): RestClient => people[n] as RestClient;

/** Applies a step. The step may fail, because the test only compares the reads of both instances afterwards. */
async function applyStep({ kind, actor, target, conversation }: Step, ids: string[], n: number): Promise<unknown> {
  const { request, get } = getPerson(actor);
  const id = String(ids[conversation]);
  const path = `/conversations/${id}`;
  const findNewest = async () => (await get<{ data?: Message[] }>(`${path}/messages?limit=1`)).body.data?.[0]?.id;
  switch (kind) {
    case "send":
      return request("POST", `${path}/messages`, { content: `Text ${n}`, reply: false });
    case "edit":
      return request("PATCH", `${path}/messages/${await findNewest()}`, { content: `Edited ${n}` });
    case "delete":
      return request("DELETE", `${path}/messages/${await findNewest()}`);
    case "read":
      return sockets[actor]?.request({ type: "read", conversation_id: id, seq: 1 + (n % 5) });
    case "title":
      return request("PATCH", path, { title: `Title ${n}` });
    case "add":
    case "role":
      return request("POST", `${path}/members`, {
        user_id: getPerson(target).id,
        role: kind === "add" ? "member" : "viewer",
      });
    case "remove":
      return request("DELETE", `${path}/members/${getPerson(target).id}`);
    case "name":
      return request("PATCH", "/me", { display_name: `Name ${n}` });
    case "create":
      return createConversation(pair.cachedInstance, getPerson(actor).account);
  }
}

test("cached and uncached reads return the same responses after any changes with concurrent readers", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(arbitraryStep, { minLength: 5, maxLength: 20 }), async (steps) => {
      const ids: string[] = [];
      for (let n = 0; n < CONVERSATION_COUNT; n += 1)
        ids.push((await createConversation(pair.cachedInstance, getPerson(n).account, [getPerson(2).account])).id);
      const paths = [
        "/conversations?limit=3",
        ...ids.flatMap((id) => [
          `/conversations/${id}`,
          `/conversations/${id}/members`,
          `/conversations/${id}/messages`,
        ]),
      ];
      for (const [n, step] of steps.entries()) {
        const reads = step.readers.flatMap((reader) => paths.map((path) => getPerson(reader).get(path)));
        await applyStep(step, ids, n);
        for (const { account } of people) await pair.expectSame(account.access_token, paths);
        await Promise.all(reads);
      }
    }),
    { numRuns: scaleRuns(8) },
  );
});
