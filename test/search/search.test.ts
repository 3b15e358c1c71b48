import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { startApp, type TestApp } from "../support/app.ts";
import type { RestClient } from "../support/rest.ts";
import {
  createConversationId,
  createSearchPath,
  createUser,
  findMessageIds,
  searchMessages,
  sendMessage,
  waitForIndex,
} from "./search-client.ts";

let parley: TestApp;

beforeAll(async () => {
  parley = await startApp();
});
afterAll(() => parley.stop());

/** Runs a check right after messages are sent, and again after they are indexed. */
async function checkBeforeAndAfterIndexing(check: () => Promise<void>): Promise<void> {
  await check();
  await waitForIndex(parley);
  await check();
}

async function sendMessages(texts: string[]): Promise<{ anna: RestClient; conversation: string; ids: string[] }> {
  const anna = await createUser(parley, "Anna");
  const conversation = await createConversationId(parley, anna);
  const ids: string[] = [];
  for (const text of texts) ids.push(await sendMessage(anna, conversation, text));
  return { anna, conversation, ids };
}

describe("a search finds", () => {
  let sharedMessages: Awaited<ReturnType<typeof sendMessages>>;

  beforeAll(async () => {
    sharedMessages = await sendMessages([
      "the square root of two",
      "He runs every day",
      "I like running",
      "To be, or not to be: that is it",
      "A quiet harbour",
      "Two harbours in the storm",
      "We write node.js here",
      "l'école est finie",
      "我爱东京都的夏天",
      "新しいコンピュータを買う",
      "สวัสดีครับ",
      "The answer is 4711.",
      "z".repeat(300),
      `beginning ${"word ".repeat(20_000)} unreachable`,
    ]);
    await waitForIndex(parley);
  });

  test.each([
    ["all words, in any order and case", "ROOT square", [0]],
    ["other forms of a word", "running", [1, 2]],
    ["a phrase", '"to be or not to be"', [3]],
    ["no phrase with its words in a different order", '"be to or not"', []],
    ["no phrase across two messages", '"storm two"', []],
    ["a phrase with other forms of its words", '"liked run"', [2]],
    ["a phrase with one exact word and a different form of the second word", '"two harbour"', [5]],
    ["no phrase without its stop words", '"the harbours"', []],
    ["no phrase with a different word in place of a stop word", '"harbours of the storm"', []],
    ["a prefix", "harb*", [4, 5]],
    ["a prefix that is the whole word", "harbour*", [4, 5]],
    ["no prefix without the star", "harb", []],
    ["a prefix next to a word", "quiet harb*", [4]],
    ["alternatives", "square or harbours", [0, 4, 5]],
    ["a word, without messages that contain an excluded word", "harbour -quiet", [5]],
    ["a name with dots", "node.js", [6]],
    ["part of a name with dots", "node", [6]],
    ["uppercase non-ASCII letters", "ÉCOLE", [7]],
    ["a sequence of Chinese characters", "东京都", [8]],
    ["part of a Chinese sequence", "京都", [8]],
    ["one Chinese character", "京", [8]],
    ["a Japanese prefix", "コンピ*", [9]],
    ["part of a Thai sequence", "ดีค", [10]],
    ["no characters in a different order", "都京", []],
    ["a number", "4711", [11]],
    ["a stop word alone", "the", [0, 5, 11]],
    ["a long word by its first characters", "z".repeat(200), [12]],
    ["no words after 60,000 characters of a message", "unreachable", []],
    ["the first words of a very long message", "beginning", [13]],
  ])("%s", async (_, q, expected) => {
    const { anna, ids } = sharedMessages;
    expect((await findMessageIds(anna, q)).toSorted()).toEqual(expected.map((index) => ids[index] ?? "").toSorted());
  });

  test("the same messages before and after indexing", async () => {
    const { anna, ids } = await sendMessages(["A quiet harbour", "我爱东京都的夏天", "He runs every day"]);
    await checkBeforeAndAfterIndexing(async () => {
      expect(await findMessageIds(anna, "harbours")).toEqual([ids[0] ?? ""]);
      expect(await findMessageIds(anna, "harb*")).toEqual([ids[0] ?? ""]);
      expect(await findMessageIds(anna, "京都")).toEqual([ids[1] ?? ""]);
      expect(await findMessageIds(anna, "running")).toEqual([ids[2] ?? ""]);
    });
  });
});

test.each(["m*", "c*", "r*", "t*"])("the prefix %s finds only words, not index marks", async (q) => {
  const { anna } = await sendMessages(["bravo"]);
  await checkBeforeAndAfterIndexing(async () => expect(await findMessageIds(anna, q)).toEqual([]));
});

describe("a hit", () => {
  test("has the location, author and text of the message", async () => {
    const { anna, conversation, ids } = await sendMessages(["In the harbour at night"]);
    await checkBeforeAndAfterIndexing(async () => {
      expect(await searchMessages(anna, "harbour")).toEqual([
        {
          message_id: ids[0] ?? "",
          conversation_id: conversation,
          conversation_title: "Test",
          seq: 1,
          role: "user",
          author: { id: anna.id, display_name: "Anna", kind: "user" },
          model: null,
          snippet: "In the <mark>harbour</mark> at night",
          rank: expect.any(Number),
          created_at: expect.stringMatching(/^\d{4}-.*Z$/),
        } as never,
      ]);
    });
  });

  test.each([
    [
      "tags are escaped, and words inside them are marked",
      "a <script>alert('x')</script> b",
      "script",
      "a &lt;<mark>script</mark>&gt;alert(&#39;x&#39;)&lt;/<mark>script</mark>&gt; b",
    ],
    [
      "mark tags in the text are escaped",
      "<mark>fish</mark> here",
      "here",
      "&lt;mark&gt;fish&lt;/mark&gt; <mark>here</mark>",
    ],
    [
      "all forms of a word are marked",
      "He runs, I was running. Run!",
      "running",
      "He <mark>runs</mark>, I was <mark>running</mark>. <mark>Run</mark>!",
    ],
    [
      "stop words of a phrase are marked",
      "To be, or not to be",
      '"not to be"',
      "<mark>To</mark> <mark>be</mark>, or <mark>not</mark> <mark>to</mark> <mark>be</mark>",
    ],
    ["a prefix marks the whole word", "harbourmaster", "harb*", "<mark>harbourmaster</mark>"],
    ["part of a Chinese sequence has one mark", "我爱东京都的夏天", "东京", "我爱<mark>东京</mark>都的夏天"],
    ["uppercase non-ASCII letters are marked", "Die ÜBERSICHT", "übersicht", "Die <mark>ÜBERSICHT</mark>"],
    ["excluded words are not marked", "black cat", "cat -dog", "black <mark>cat</mark>"],
  ])("has a snippet in which %s", async (_, text, q, snippet) => {
    const { anna } = await sendMessages([text]);
    expect((await searchMessages(anna, q)).map((hit) => hit.snippet)).toEqual([snippet]);
  });

  test("has a snippet with the relevant part of a long message", async () => {
    const { anna } = await sendMessages([
      `${"lorem ipsum ".repeat(400)}the needle is here ${"dolor sit ".repeat(400)}`,
    ]);
    const [hit] = await searchMessages(anna, "needles");
    expect(hit?.snippet).toStartWith("… ");
    expect(hit?.snippet).toEndWith(" …");
    expect(hit?.snippet).toContain("the <mark>needle</mark> is here");
    expect(hit?.snippet.length).toBeLessThan(300);
  });
});

describe("the order of hits", () => {
  test("ranks messages by number of matches, then exact words before prefixes, then newest first", async () => {
    const { anna, ids } = await sendMessages([
      "harbour in the morning mist",
      "harbour and harbour and harbour",
      "harbourmaster in the morning mist",
      "harbour in the morning mist",
    ]);
    await checkBeforeAndAfterIndexing(async () => {
      const wordHits = (await findMessageIds(anna, "harbour")).map((id) => ids.indexOf(id));
      expect(wordHits).toEqual([1, 3, 0]);
      const prefixHits = (await findMessageIds(anna, "harbour*")).map((id) => ids.indexOf(id));
      expect(prefixHits).toEqual([1, 3, 0, 2]);
    });
  });

  test.each([1, 2, 7, 200])("is the same in pages of %i, which contain every hit exactly once", async (limit) => {
    const texts = Array.from({ length: 23 }, (_, n) => `${"boat ".repeat(1 + (n % 3))}number ${n}`);
    const { anna, ids } = await sendMessages(texts);
    await waitForIndex(parley);
    await checkBeforeAndAfterIndexing(async () => {
      const { rows, pages } = await anna.listAll<{ message_id: string; rank: number }>(createSearchPath("boat"), limit);
      expect(rows.map(({ message_id }) => message_id).toSorted()).toEqual(ids.toSorted());
      expect(rows.map(({ message_id }) => message_id)).toEqual(await findMessageIds(anna, "boat", { limit: "200" }));
      expect(rows.map(({ rank }) => rank)).toEqual(rows.map(({ rank }) => rank).toSorted((a, b) => b - a));
      expect(pages.length).toBe(Math.ceil(23 / limit));
    });
  });
});

describe("filters", () => {
  test("restrict hits by conversation, role and time", async () => {
    const anna = await createUser(parley);
    const [firstConversationId, secondConversationId] = [
      await createConversationId(parley, anna),
      await createConversationId(parley, anna),
    ];
    const firstMessageId = await sendMessage(anna, firstConversationId, "ship one");
    await parley.database`update messages set created_at = '2020-03-01T00:00:00Z' where id = ${firstMessageId}`;
    const secondMessageId = await sendMessage(anna, secondConversationId, "ship two");
    await checkBeforeAndAfterIndexing(async () => {
      expect(await findMessageIds(anna, "ship", { conversation_id: firstConversationId })).toEqual([firstMessageId]);
      expect(await findMessageIds(anna, "ship", { conversation_id: secondConversationId.toUpperCase() })).toEqual([
        secondMessageId,
      ]);
      expect((await findMessageIds(anna, "ship", { role: "user" })).length).toBe(2);
      expect(await findMessageIds(anna, "ship", { role: "assistant" })).toEqual([]);
      expect(await findMessageIds(anna, "ship", { to: "2020-03-02T00:00:00Z" })).toEqual([firstMessageId]);
      expect(await findMessageIds(anna, "ship", { from: "2020-03-02T00:00:00Z" })).toEqual([secondMessageId]);
      expect(await findMessageIds(anna, "ship", { from: "2020-02-28T00:00:00Z", to: "2020-03-01T00:00:00Z" })).toEqual(
        [],
      );
      expect(
        await findMessageIds(anna, "ship", { from: "2020-03-01T01:00:00+01:00", to: "2020-03-01T00:00:01Z" }),
      ).toEqual([firstMessageId]);
      expect(await findMessageIds(anna, "ship", { from: "2021-01-01T00:00:00Z", to: "2020-01-01T00:00:00Z" })).toEqual(
        [],
      );
    });
  });
});
