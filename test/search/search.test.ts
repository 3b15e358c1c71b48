import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { startApp, type TestApp } from "../support/app.ts";
import type { Rest } from "../support/rest.ts";
import { createPerson, find, findIds, openConversation, pathOf, sendMessage, waitForIndex } from "./searcher.ts";

let parley: TestApp;

beforeAll(async () => {
  parley = await startApp();
});
afterAll(() => parley.stop());

/** Right after the send, and from the index. */
async function inBothStates(check: () => Promise<void>): Promise<void> {
  await check();
  await waitForIndex(parley);
  await check();
}

async function createTexts(texts: string[]): Promise<{ anna: Rest; conversation: string; ids: string[] }> {
  const anna = await createPerson(parley, "Anna");
  const conversation = await openConversation(parley, anna);
  const ids: string[] = [];
  for (const text of texts) ids.push(await sendMessage(anna, conversation, text));
  return { anna, conversation, ids };
}

describe("a search finds", () => {
  let shared: Awaited<ReturnType<typeof createTexts>>;

  beforeAll(async () => {
    shared = await createTexts([
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
    ["all words, in any order and in capital letters", "ROOT square", [0]],
    ["a word form of the language", "running", [1, 2]],
    ["a phrase", '"to be or not to be"', [3]],
    ["no other order of the phrase's words", '"be to or not"', []],
    ["no phrase across the end and the start of a text", '"storm two"', []],
    ["a phrase with other forms of its words", '"liked run"', [2]],
    ["a phrase with an exact word and another form", '"two harbour"', [5]],
    ["no phrase without its stop words", '"the harbours"', []],
    ["no phrase with another word in place of a stop word", '"harbours of the storm"', []],
    ["a prefix", "harb*", [4, 5]],
    ["a prefix that is the whole word", "harbour*", [4, 5]],
    ["no prefix without the star", "harb", []],
    ["a prefix next to a word", "quiet harb*", [4]],
    ["alternatives", "square or harbours", [0, 4, 5]],
    ["a word without another", "harbour -quiet", [5]],
    ["a name with dots", "node.js", [6]],
    ["a part of such a name", "node", [6]],
    ["non-ASCII letters in capitals", "ÉCOLE", [7]],
    ["a whole Chinese run", "东京都", [8]],
    ["a part of a Chinese run", "京都", [8]],
    ["one Chinese character", "京", [8]],
    ["a prefix of a Japanese run", "コンピ*", [9]],
    ["a part of a Thai run", "ดีค", [10]],
    ["no characters in another order", "都京", []],
    ["a number", "4711", [11]],
    ["a stop word alone", "the", [0, 5, 11]],
    ["a long word, at least by its prefix", "z".repeat(200), [12]],
    ["words after 60,000 characters of one message", "unreachable", []],
    ["the first words of such a message", "beginning", [13]],
  ])("%s", async (_, q, expected) => {
    const { anna, ids } = shared;
    expect((await findIds(anna, q)).toSorted()).toEqual(expected.map((index) => ids[index] ?? "").toSorted());
  });

  test("right after the send, a search finds the same as from the index", async () => {
    const { anna, ids } = await createTexts(["A quiet harbour", "我爱东京都的夏天", "He runs every day"]);
    await inBothStates(async () => {
      expect(await findIds(anna, "harbours")).toEqual([ids[0] ?? ""]);
      expect(await findIds(anna, "harb*")).toEqual([ids[0] ?? ""]);
      expect(await findIds(anna, "京都")).toEqual([ids[1] ?? ""]);
      expect(await findIds(anna, "running")).toEqual([ids[2] ?? ""]);
    });
  });
});

test.each(["m*", "c*", "r*", "t*"])("the prefix %s finds words only, no marks of the index", async (q) => {
  const { anna } = await createTexts(["bravo"]);
  await inBothStates(async () => expect(await findIds(anna, q)).toEqual([]));
});

describe("a hit", () => {
  test("has the location, author and text of the message", async () => {
    const { anna, conversation, ids } = await createTexts(["In the harbour at night"]);
    await inBothStates(async () => {
      expect(await find(anna, "harbour")).toEqual([
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
      "mark tags in the text stay text",
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
    ["a part of a run is one mark", "我爱东京都的夏天", "东京", "我爱<mark>东京</mark>都的夏天"],
    ["capital letters beyond ASCII", "Die ÜBERSICHT", "übersicht", "Die <mark>ÜBERSICHT</mark>"],
    ["excluded words are not marked", "black cat", "cat -dog", "black <mark>cat</mark>"],
  ])("%s", async (_, text, q, snippet) => {
    const { anna } = await createTexts([text]);
    expect((await find(anna, q)).map((hit) => hit.snippet)).toEqual([snippet]);
  });

  test("shows the relevant part of a long text", async () => {
    const { anna } = await createTexts([`${"lorem ipsum ".repeat(400)}the needle is here ${"dolor sit ".repeat(400)}`]);
    const [hit] = await find(anna, "needles");
    expect(hit?.snippet).toStartWith("… ");
    expect(hit?.snippet).toEndWith(" …");
    expect(hit?.snippet).toContain("the <mark>needle</mark> is here");
    expect(hit?.snippet.length).toBeLessThan(300);
  });
});

describe("the order", () => {
  test("more hits first, exact words before prefixes, then newer messages", async () => {
    const { anna, ids } = await createTexts([
      "harbour in the morning mist",
      "harbour and harbour and harbour",
      "harbourmaster in the morning mist",
      "harbour in the morning mist",
    ]);
    await inBothStates(async () => {
      const named = (await findIds(anna, "harbour")).map((id) => ids.indexOf(id));
      expect(named).toEqual([1, 3, 0]);
      const begun = (await findIds(anna, "harbour*")).map((id) => ids.indexOf(id));
      expect(begun).toEqual([1, 3, 0, 2]);
    });
  });

  test.each([1, 2, 7, 200])("pages of %i have every hit once, in the same order", async (limit) => {
    const texts = Array.from({ length: 23 }, (_, n) => `${"boat ".repeat(1 + (n % 3))}number ${n}`);
    const { anna, ids } = await createTexts(texts);
    await waitForIndex(parley);
    await inBothStates(async () => {
      const { rows, pages } = await anna.all<{ message_id: string; rank: number }>(pathOf("boat"), limit);
      expect(rows.map(({ message_id }) => message_id).toSorted()).toEqual(ids.toSorted());
      expect(rows.map(({ message_id }) => message_id)).toEqual(await findIds(anna, "boat", { limit: "200" }));
      expect(rows.map(({ rank }) => rank)).toEqual(rows.map(({ rank }) => rank).toSorted((a, b) => b - a));
      expect(pages.length).toBe(Math.ceil(23 / limit));
    });
  });
});

describe("filters", () => {
  test("conversation, role and time", async () => {
    const anna = await createPerson(parley);
    const [one, two] = [await openConversation(parley, anna), await openConversation(parley, anna)];
    const first = await sendMessage(anna, one, "ship one");
    await parley.database`update messages set created_at = '2020-03-01T00:00:00Z' where id = ${first}`;
    const second = await sendMessage(anna, two, "ship two");
    await inBothStates(async () => {
      expect(await findIds(anna, "ship", { conversation_id: one })).toEqual([first]);
      expect(await findIds(anna, "ship", { conversation_id: two.toUpperCase() })).toEqual([second]);
      expect((await findIds(anna, "ship", { role: "user" })).length).toBe(2);
      expect(await findIds(anna, "ship", { role: "assistant" })).toEqual([]);
      expect(await findIds(anna, "ship", { to: "2020-03-02T00:00:00Z" })).toEqual([first]);
      expect(await findIds(anna, "ship", { from: "2020-03-02T00:00:00Z" })).toEqual([second]);
      expect(await findIds(anna, "ship", { from: "2020-02-28T00:00:00Z", to: "2020-03-01T00:00:00Z" })).toEqual([]);
      expect(await findIds(anna, "ship", { from: "2020-03-01T01:00:00+01:00", to: "2020-03-01T00:00:01Z" })).toEqual([
        first,
      ]);
      expect(await findIds(anna, "ship", { from: "2021-01-01T00:00:00Z", to: "2020-01-01T00:00:00Z" })).toEqual([]);
    });
  });
});
