import { afterAll, beforeAll, expect, test } from "bun:test";
import fc from "fast-check";
import { startApp, type TestApp } from "../support/app.ts";
import { scaleRuns } from "../support/property-tests.ts";
import type { RestClient } from "../support/rest.ts";
import { createConversationId, createUser, findMessageIds, sendMessage, waitForIndex } from "./search-client.ts";

let parley: TestApp;
let users: RestClient[];

beforeAll(async () => {
  parley = await startApp();
  users = await Promise.all(Array.from({ length: 4 }, () => createUser(parley)));
});
afterAll(() => parley.stop());

/** Words that are their own stems. */
const vocabulary = ["bravo", "tango", "tang", "delta", "kilo", "zulu", "quebec", "sierra"];
const arbitraryWord = fc.constantFrom(...vocabulary);
const arbitraryText = fc.array(arbitraryWord, { minLength: 1, maxLength: 6 });
const arbitraryUserIndex = fc.nat({ max: 3 });

const arbitraryStep = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant("send" as const),
      sender: arbitraryUserIndex,
      conversationIndex: fc.nat(),
      text: arbitraryText,
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("edit" as const), message: fc.nat(), text: arbitraryText }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("delete" as const), message: fc.nat() }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant("join" as const), user: arbitraryUserIndex, conversationIndex: fc.nat() }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("leave" as const),
      user: arbitraryUserIndex,
      conversationIndex: fc.nat(),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("wait" as const) }) },
);
type Step = typeof arbitraryStep extends fc.Arbitrary<infer T> ? T : never;

const arbitraryTerm = fc.oneof(
  arbitraryWord.map((w) => ({ q: w, matches: (words: string[]) => words.includes(w) })),
  fc.tuple(arbitraryWord, arbitraryWord).map(([a, b]) => ({
    q: `"${a} ${b}"`,
    matches: (words: string[]) => words.some((w, n) => w === a && words[n + 1] === b),
  })),
  fc.tuple(arbitraryWord, fc.integer({ min: 1, max: 4 })).map(([w, length]) => ({
    q: `${w.slice(0, length)}*`,
    matches: (words: string[]) => words.some((other) => other.startsWith(w.slice(0, length))),
  })),
);
const arbitraryBranch = fc
  .tuple(arbitraryTerm, fc.option(arbitraryTerm), fc.option(arbitraryWord))
  .map(([first, second, excluded]) => ({
    q: `${first.q}${second ? ` ${second.q}` : ""}${excluded ? ` -${excluded}` : ""}`,
    matches: (words: string[]) =>
      first.matches(words) &&
      (second === null || second.matches(words)) &&
      (excluded === null || !words.includes(excluded)),
  }));
const arbitraryQuery = fc.tuple(arbitraryBranch, fc.option(arbitraryBranch, { freq: 3 })).map(([first, second]) => ({
  q: second ? `${first.q} or ${second.q}` : first.q,
  matches: (words: string[]) => first.matches(words) || (second?.matches(words) ?? false),
}));

type SentMessage = { id: string; conversationIndex: number; sender: number; words: string[] };

/** Creates four conversations, and records which messages each user should find. Conversation n is owned by user n. */
async function createModel() {
  const ids = await Promise.all(users.map((owner) => createConversationId(parley, owner)));
  const members = ids.map((_, owner) => new Set([owner]));
  const sentMessages: SentMessage[] = [];
  const getPath = (conversationIndex: number) => `/conversations/${ids[conversationIndex]}`;
  const getUser = (index: number): RestClient => users[index] as RestClient;

  const steps: { [K in Step["kind"]]: (step: Extract<Step, { kind: K }>) => Promise<unknown> } = {
    async send({ sender, conversationIndex, text: words }) {
      const joinedIndexes = ids.flatMap((_, index) => (members[index]?.has(sender) ? [index] : []));
      const index = joinedIndexes[conversationIndex % joinedIndexes.length] ?? sender;
      sentMessages.push({
        id: await sendMessage(getUser(sender), ids[index] ?? "", words.join(" ")),
        conversationIndex: index,
        sender,
        words,
      });
    },
    async edit({ message: n, text: words }) {
      const message = sentMessages[n % Math.max(1, sentMessages.length)];
      if (!message || !members[message.conversationIndex]?.has(message.sender)) return;
      message.words = words;
      await getUser(message.sender).request("PATCH", `${getPath(message.conversationIndex)}/messages/${message.id}`, {
        content: words.join(" "),
      });
    },
    async delete({ message: n }) {
      const message = sentMessages[n % Math.max(1, sentMessages.length)];
      if (!message) return;
      sentMessages.splice(sentMessages.indexOf(message), 1);
      const messagePath = `${getPath(message.conversationIndex)}/messages/${message.id}`;
      await getUser(message.conversationIndex).request("DELETE", messagePath);
    },
    async join({ user, conversationIndex }) {
      members[conversationIndex % 4]?.add(user);
      await getUser(conversationIndex % 4).request("POST", `${getPath(conversationIndex % 4)}/members`, {
        user_id: getUser(user).id,
      });
    },
    async leave({ user, conversationIndex }) {
      if (user === conversationIndex % 4) return;
      members[conversationIndex % 4]?.delete(user);
      await getUser(conversationIndex % 4).request(
        "DELETE",
        `${getPath(conversationIndex % 4)}/members/${getUser(user).id}`,
      );
    },
    wait: () => waitForIndex(parley),
  };
  return {
    applyStep: (step: Step) => (steps[step.kind] as (step: Step) => Promise<unknown>)(step),
    findExpectedIds: (user: number, matches: (words: string[]) => boolean, conversationIndex?: number) =>
      sentMessages
        .filter(
          (message) =>
            members[message.conversationIndex]?.has(user) &&
            (conversationIndex === undefined || message.conversationIndex === conversationIndex) &&
            matches(message.words),
        )
        .map(({ id }) => id)
        .toSorted(),
    ids,
    async deleteConversations() {
      await Promise.all(
        ids.map((_, conversationIndex) => getUser(conversationIndex).request("DELETE", getPath(conversationIndex))),
      );
    },
  };
}

test("a search finds the same messages as a scan of all messages that the user can read", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(arbitraryStep, { minLength: 5, maxLength: 25 }),
      fc.array(arbitraryQuery, { minLength: 3, maxLength: 6 }),
      async (steps, queries) => {
        const model = await createModel();
        const expectSameResults = async () => {
          for (const user of users.keys())
            for (const { q, matches } of queries) {
              const foundIds = await findMessageIds(users[user] as RestClient, q, { limit: "200" });
              expect([q, foundIds.toSorted()]).toEqual([q, model.findExpectedIds(user, matches)]);
              const foundInFirst = await findMessageIds(users[user] as RestClient, q, {
                limit: "200",
                conversation_id: model.ids[0] ?? "",
              });
              expect([q, foundInFirst.toSorted()]).toEqual([q, model.findExpectedIds(user, matches, 0)]);
            }
        };
        try {
          for (const step of steps) await model.applyStep(step);
          await expectSameResults();
          await waitForIndex(parley);
          await expectSameResults();
        } finally {
          await model.deleteConversations();
        }
      },
    ),
    { numRuns: scaleRuns(6) },
  );
}, 120_000);
