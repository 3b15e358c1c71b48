import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { PASSAGE_CHARS_MAX } from "../../src/modules/documents/passages.ts";
import { createFolder, startDocuments } from "./start-documents.ts";

const filler = "Nothing to see in this sentence about weather and soup. ".repeat(60);
const folder = createFolder({
  "operations.md": `# Operations\n\nHow to run it.\n\n## Backup\n\nStop the writers, then copy the database to a safe place.\n\n## Restore\n\nPut the copy back.\n\n${filler}`,
  "how-to.md": "# How to do things\n\nHow do I do it? I do it like this: how I do the things that I do.\n",
  "title.md": "# Zebras\n\nStriped animals.\n",
  "heading.md": "# Animals\n\n## Zebras\n\nStriped.\n",
  "body.md": `# Striped animals\n\nAmong them are zebras.\n\n${filler}`,
  "html.md":
    '# Escapes\n\nA needle <b>in</b> `a < b && "c"` a [needle](https://evil.example.com/needle) \u0001x\u0002.\n',
  "deutsch.md": "# Über Häuser\n\nDie Straße führt zu den Häusern. Wie sichert man die Datenbank?\n",
  "中文.md": "# 数据库指南\n\n请定期备份数据库，并检查恢复是否可行。\n",
  "日本語.md": "# ガイド\n\nデータベースのバックアップを毎日取ります。\n",
  "ไทย.md": "# คู่มือ\n\nสำรองฐานข้อมูลทุกวัน\n",
  "long.md": `# Long\n\n${filler}\n\n${filler}\n\nThe treasure lies under the oak.\n\n\`\`\`\n${"code line\n".repeat(400)}\`\`\`\n${"z".repeat(5000)}\n`,
  "signs.md": "# Signs\n\nThe “falcon” rests… then it’s gone—swift as ever.\n",
  "names.md":
    "# Names\n\nCall `POST /api/v1/messages` with node.js 20.11, set JWT_SECRET, mail ada@example.com, see <https://example.com/open-source>.\n",
  "decomposed.md": "# Cafe\u0301\n\nA cafe\u0301 crème.\n",
});
let server: Awaited<ReturnType<typeof startDocuments>>;
beforeAll(async () => {
  server = await startDocuments(folder.path);
});
afterAll(async () => {
  await server.stop();
  folder.remove();
});

const searchDocuments = async (q: string) => (await server.list(`?q=${encodeURIComponent(q)}`)).data;
const searchPaths = async (q: string) => (await searchDocuments(q)).map(({ path }) => path);

describe("a search", () => {
  test("ranks a title above a heading, and a heading above text", async () => {
    const results = await searchDocuments("zebras");
    expect(results.map(({ path }) => path)).toEqual(["title.md", "heading.md", "body.md"]);
    const ranks = results.map(({ rank }) => rank ?? -1);
    expect(ranks.every((rank) => rank > 0 && rank < 1)).toBe(true);
    expect(ranks).toEqual([...ranks].sort((a, b) => b - a));
  });

  test("returns a snippet with the words marked and everything else escaped", async () => {
    const [needleResult] = await searchDocuments("needles");
    expect(needleResult?.snippet).toBe(
      "A <mark>needle</mark> in a &lt; b &amp;&amp; &quot;c&quot; a <mark>needle</mark> x",
    );
    const [treasureResult] = await searchDocuments("treasure oak");
    expect(treasureResult?.path).toBe("long.md");
    expect(treasureResult?.snippet).toContain("The <mark>treasure</mark> lies under the <mark>oak</mark>");
    expect(treasureResult?.snippet?.length).toBeLessThan(600);
    expect((await searchDocuments("node.js secret"))[0]?.snippet).toContain(
      "with <mark>node</mark>.<mark>js</mark> 20.11, set JWT_<mark>SECRET</mark>,",
    );
    expect((await searchDocuments("falcon swift"))[0]?.snippet).toContain(
      "“<mark>falcon</mark>” rests… then it’s gone—<mark>swift</mark> as ever",
    );
  });

  test.each([
    ["backups", ["operations.md"]],
    ["HÄUSERN", ["deutsch.md"]],
    ["straße", ["deutsch.md"]],
    ["数据库", ["中文.md"]],
    ["备份", ["中文.md"]],
    ["备份数据库", ["中文.md"]],
    ["バックアップ", ["日本語.md"]],
    ["ฐานข้อมูล", ["ไทย.md"]],
    ["café", ["decomposed.md"]],
    ["node.js", ["names.md"]],
    ["js.node", []],
    ["messages", ["names.md"]],
    ["/api/v1/messages", ["names.md"]],
    ["jwt_secret", ["names.md"]],
    ["secret", ["names.md"]],
    ["ada@example.com", ["names.md"]],
    ["example.com/open", ["names.md"]],
    ["20.11", ["names.md"]],
    ["names -open-source", []],
    ["names -closed-source", ["names.md"]],
    ['names -"open source"', []],
    ["-", []],
    ["falcon", ["signs.md"]],
    ["rests", ["signs.md"]],
    ["swift gone", ["signs.md"]],
    ["gone–swift…", ["signs.md"]],
    ["swift–gone…", []],
    ["“swift as ever”", ["signs.md"]],
    ["„ever swift“", []],
    ['"striped animals"', ["body.md", "title.md"]],
    ["zebras -title -animals", []],
    ["zebras -among", ["title.md", "heading.md"]],
    ["needle or treasure", ["html.md", "long.md"]],
    ["writers soup", ["operations.md"]],
    ["nosuchword", []],
    ["!!! ??? ()", []],
    ["&|!:*<->\\'", []],
    ["zebras & | ! ( ' \\ :*", ["title.md", "heading.md", "body.md"]],
    ['"unclosed needle', []],
    ["the", ["how-to.md", "long.md", "operations.md", "signs.md"]],
  ])("for %p finds %p", async (q, paths) => {
    expect((await searchPaths(q)).sort()).toEqual([...paths].sort());
  });

  test("marks words in languages that don't separate words with spaces", async () => {
    expect((await searchDocuments("数据库"))[0]?.snippet).toContain(
      "请定期备份<mark>数据库</mark>，并检查恢复是否可行",
    );
    expect((await searchDocuments("備份 バックアップ"))[0]).toBeUndefined();
    expect((await searchDocuments("バックアップ"))[0]?.snippet).toContain("<mark>バックアップ</mark>");
  });

  test("is paginated by rank, without missing or repeated documents", async () => {
    const allResults = await searchDocuments("striped or soup or needle or how");
    expect(allResults.length).toBeGreaterThan(5);
    const pagedPaths: (string | undefined)[] = [];
    let cursor: string | null = "";
    while (cursor !== null) {
      const page = await server.list(
        `?q=${encodeURIComponent("striped or soup or needle or how")}&limit=2${cursor && `&cursor=${cursor}`}`,
      );
      pagedPaths.push(...page.data.map(({ path }) => path));
      cursor = page.next_cursor;
    }
    expect(pagedPaths).toEqual(allResults.map(({ path }) => path));
  });

  test("without words returns the list of documents", async () => {
    expect((await searchDocuments("  ")).length).toBe((await server.list("")).data.length);
  });
});

describe("passages for a question", () => {
  const searchPassages = (question: string, limit = 3) => server.documents.searchPassages(question, limit);

  test("match the topic, not common question words", async () => {
    const [firstPassage, ...otherPassages] = await searchPassages("how do I back up the database?");
    expect(firstPassage).toEqual({
      path: "operations.md",
      title: "Operations",
      heading: "Backup",
      snippet: "Stop the writers, then copy the database to a safe place.",
    });
    expect(otherPassages.map(({ path }) => path)).not.toContain("how-to.md");
  });

  test("are found in other languages", async () => {
    expect((await searchPassages("Wie sichere ich die Datenbank?"))[0]?.path).toBe("deutsch.md");
    expect((await searchPassages("如何备份数据库？"))[0]).toMatchObject({
      path: "中文.md",
      snippet: expect.stringContaining("请定期备份数据库，"),
    });
  });

  test("are found by the question's stop words if it has no other words", async () => {
    expect((await searchPassages("how do I?"))[0]?.path).toBe("how-to.md");
  });

  test("are limited in number and length", async () => {
    const passages = await searchPassages("soup weather code zebras", 50);
    expect(passages.length).toBeGreaterThan(5);
    for (const { snippet } of passages) expect(snippet.length).toBeLessThanOrEqual(PASSAGE_CHARS_MAX);
    expect((await searchPassages("soup weather code zebras", 2)).length).toBe(2);
    expect((await searchPassages("soup", 1_000_000)).length).toBeLessThanOrEqual(50);
    expect((await searchPassages("soup", 0)).length).toBe(1);
  });

  test.each([
    "",
    "???",
    "nosuchwordatall",
    "' or 1=1; --",
    "or or or",
    "-",
    '"',
    "a".repeat(100_000),
    "word ".repeat(50_000),
  ])("are empty for the unusual question %#", async (question) => {
    expect(await searchPassages(question)).toEqual([]);
  });
});
