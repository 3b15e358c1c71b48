import { afterAll, beforeAll, test } from "bun:test";
import fc from "fast-check";
import type { Message } from "../../src/protocol/message.ts";
import { createConversation } from "../support/conversation.ts";
import { configureProperties, countRuns } from "../support/properties.ts";
import { createRest, type Rest } from "../support/rest.ts";
import { openSocket, type TestSocket } from "../support/socket.ts";
import { type InstancePair, startInstancePair } from "./start-instance-pair.ts";

configureProperties();

const PEOPLE = 3;
const CONVERSATIONS = 2;
let pair: InstancePair;
const people: Rest[] = [];
const sockets: TestSocket[] = [];

beforeAll(async () => {
  pair = await startInstancePair();
  for (let n = 0; n < PEOPLE; n += 1) {
    const account = await pair.cached.register(undefined, `Person ${n}`);
    people.push(createRest(pair.cached, account));
    sockets.push(await openSocket(pair.cached.url, { token: account.access_token }));
  }
});
afterAll(async () => {
  for (const socket of sockets) await socket.close();
  await pair.stop();
});

const kinds = ["send", "edit", "delete", "read", "title", "add", "role", "remove", "name", "create"] as const;
/** What `by` does to the conversation `at`; `readers` read at the same time. */
const step = fc.record({
  kind: fc.constantFrom(...kinds),
  by: fc.nat(PEOPLE - 1),
  whom: fc.nat(PEOPLE - 1),
  at: fc.nat(CONVERSATIONS - 1),
  readers: fc.array(fc.nat(PEOPLE - 1), { maxLength: 4 }),
});
type Step = Parameters<Parameters<(typeof step)["map"]>[0]>[0];

const personAt = (n: number): Rest => people[n] as Rest;

/** Refusals are fine: what counts is that both instances return the same state afterwards. */
async function take({ kind, by, whom, at }: Step, ids: string[], n: number): Promise<unknown> {
  const { request: ask, get } = personAt(by);
  const id = String(ids[at]);
  const path = `/conversations/${id}`;
  const newest = async () => (await get<{ data?: Message[] }>(`${path}/messages?limit=1`)).body.data?.[0]?.id;
  switch (kind) {
    case "send":
      return ask("POST", `${path}/messages`, { content: `Text ${n}`, reply: false });
    case "edit":
      return ask("PATCH", `${path}/messages/${await newest()}`, { content: `Edited ${n}` });
    case "delete":
      return ask("DELETE", `${path}/messages/${await newest()}`);
    case "read":
      return sockets[by]?.request({ type: "read", conversation_id: id, seq: 1 + (n % 5) });
    case "title":
      return ask("PATCH", path, { title: `Title ${n}` });
    case "add":
    case "role":
      return ask("POST", `${path}/members`, {
        user_id: personAt(whom).id,
        role: kind === "add" ? "member" : "viewer",
      });
    case "remove":
      return ask("DELETE", `${path}/members/${personAt(whom).id}`);
    case "name":
      return ask("PATCH", "/me", { display_name: `Name ${n}` });
    case "create":
      return createConversation(pair.cached, personAt(by).account);
  }
}

test("with any changes and concurrent readers, a cached read returns the same as an uncached one", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 20 }), async (steps) => {
      const ids: string[] = [];
      for (let n = 0; n < CONVERSATIONS; n += 1)
        ids.push((await createConversation(pair.cached, personAt(n).account, [personAt(2).account])).id);
      const paths = [
        "/conversations?limit=3",
        ...ids.flatMap((id) => [
          `/conversations/${id}`,
          `/conversations/${id}/members`,
          `/conversations/${id}/messages`,
        ]),
      ];
      for (const [n, one] of steps.entries()) {
        const reading = one.readers.flatMap((reader) => paths.map((path) => personAt(reader).get(path)));
        await take(one, ids, n);
        for (const { account } of people) await pair.expectSame(account.access_token, paths);
        await Promise.all(reading);
      }
    }),
    { numRuns: countRuns(8) },
  );
});
