import { afterAll, beforeAll, expect, test } from "bun:test";
import fc from "fast-check";
import { startApp, type TestApp } from "../support/app.ts";
import { countRuns } from "../support/properties.ts";
import type { Rest } from "../support/rest.ts";
import { createPerson, findIds, openConversation, sendMessage, waitForIndex } from "./searcher.ts";

let parley: TestApp;
let people: Rest[];

beforeAll(async () => {
  parley = await startApp();
  people = await Promise.all(Array.from({ length: 4 }, () => createPerson(parley)));
});
afterAll(() => parley.stop());

/** Each is its own stem. */
const vocabulary = ["bravo", "tango", "tang", "delta", "kilo", "zulu", "quebec", "sierra"];
const word = fc.constantFrom(...vocabulary);
const text = fc.array(word, { minLength: 1, maxLength: 6 });
const person = fc.nat({ max: 3 });

const step = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ kind: fc.constant("send" as const), by: person, conversationIndex: fc.nat(), text }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("edit" as const), message: fc.nat(), text }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("delete" as const), message: fc.nat() }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant("join" as const), user: person, conversationIndex: fc.nat() }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant("leave" as const), user: person, conversationIndex: fc.nat() }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("wait" as const) }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

const term = fc.oneof(
  word.map((w) => ({ q: w, has: (words: string[]) => words.includes(w) })),
  fc.tuple(word, word).map(([a, b]) => ({
    q: `"${a} ${b}"`,
    has: (words: string[]) => words.some((w, n) => w === a && words[n + 1] === b),
  })),
  fc.tuple(word, fc.integer({ min: 1, max: 4 })).map(([w, length]) => ({
    q: `${w.slice(0, length)}*`,
    has: (words: string[]) => words.some((other) => other.startsWith(w.slice(0, length))),
  })),
);
const branch = fc.tuple(term, fc.option(term), fc.option(word)).map(([first, second, excluded]) => ({
  q: `${first.q}${second ? ` ${second.q}` : ""}${excluded ? ` -${excluded}` : ""}`,
  has: (words: string[]) =>
    first.has(words) && (second === null || second.has(words)) && (excluded === null || !words.includes(excluded)),
}));
const query = fc.tuple(branch, fc.option(branch, { freq: 3 })).map(([one, other]) => ({
  q: other ? `${one.q} or ${other.q}` : one.q,
  has: (words: string[]) => one.has(words) || (other?.has(words) ?? false),
}));

type Sent = { id: string; conversationIndex: number; by: number; words: string[] };

/** The owners of conversations 0 to 3 are the people with these indexes. */
async function createModel() {
  const ids = await Promise.all(people.map((owner) => openConversation(parley, owner)));
  const members = ids.map((_, owner) => new Set([owner]));
  const sent: Sent[] = [];
  const path = (conversationIndex: number) => `/conversations/${ids[conversationIndex]}`;
  const personOf = (index: number): Rest => people[index] as Rest;

  const steps: { [K in Step["kind"]]: (step: Extract<Step, { kind: K }>) => Promise<unknown> } = {
    async send({ by, conversationIndex, text: words }) {
      const open = ids.flatMap((_, index) => (members[index]?.has(by) ? [index] : []));
      const at = open[conversationIndex % open.length] ?? by;
      sent.push({
        id: await sendMessage(personOf(by), ids[at] ?? "", words.join(" ")),
        conversationIndex: at,
        by,
        words,
      });
    },
    async edit({ message, text: words }) {
      const one = sent[message % Math.max(1, sent.length)];
      if (!one || !members[one.conversationIndex]?.has(one.by)) return;
      one.words = words;
      await personOf(one.by).request("PATCH", `${path(one.conversationIndex)}/messages/${one.id}`, {
        content: words.join(" "),
      });
    },
    async delete({ message }) {
      const one = sent[message % Math.max(1, sent.length)];
      if (!one) return;
      sent.splice(sent.indexOf(one), 1);
      await personOf(one.conversationIndex).request("DELETE", `${path(one.conversationIndex)}/messages/${one.id}`);
    },
    async join({ user, conversationIndex }) {
      members[conversationIndex % 4]?.add(user);
      await personOf(conversationIndex % 4).request("POST", `${path(conversationIndex % 4)}/members`, {
        user_id: personOf(user).id,
      });
    },
    async leave({ user, conversationIndex }) {
      if (user === conversationIndex % 4) return;
      members[conversationIndex % 4]?.delete(user);
      await personOf(conversationIndex % 4).request(
        "DELETE",
        `${path(conversationIndex % 4)}/members/${personOf(user).id}`,
      );
    },
    wait: () => waitForIndex(parley),
  };
  return {
    take: (one: Step) => (steps[one.kind] as (step: Step) => Promise<unknown>)(one),
    scan: (user: number, has: (words: string[]) => boolean, conversationIndex?: number) =>
      sent
        .filter(
          (one) =>
            members[one.conversationIndex]?.has(user) &&
            (conversationIndex === undefined || one.conversationIndex === conversationIndex) &&
            has(one.words),
        )
        .map(({ id }) => id)
        .toSorted(),
    ids,
    async clear() {
      await Promise.all(
        ids.map((_, conversationIndex) => personOf(conversationIndex).request("DELETE", path(conversationIndex))),
      );
    },
  };
}

test("search finds the same as a scan of every message that the user can read", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { minLength: 5, maxLength: 25 }),
      fc.array(query, { minLength: 3, maxLength: 6 }),
      async (taken, queries) => {
        const model = await createModel();
        const check = async () => {
          for (const user of people.keys())
            for (const { q, has } of queries) {
              const found = await findIds(people[user] as Rest, q, { limit: "200" });
              expect([q, found.toSorted()]).toEqual([q, model.scan(user, has)]);
              const inOne = await findIds(people[user] as Rest, q, {
                limit: "200",
                conversation_id: model.ids[0] ?? "",
              });
              expect([q, inOne.toSorted()]).toEqual([q, model.scan(user, has, 0)]);
            }
        };
        try {
          for (const one of taken) await model.take(one);
          await check();
          await waitForIndex(parley);
          await check();
        } finally {
          await model.clear();
        }
      },
    ),
    { numRuns: countRuns(6) },
  );
}, 120_000);
