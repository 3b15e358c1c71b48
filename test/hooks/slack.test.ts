import { expect, test } from "bun:test";
import type { Json, JsonObject } from "../../src/lib/json.ts";
import { isSlackFormat, parseSlackName, parseSlackText } from "../../src/modules/hooks/slack.ts";

test("Slack's links and entities are converted to Markdown, and other text is unchanged", () => {
  const cases: [string, string][] = [
    ["a <https://example.com/x?a=1&amp;b=2|link> here", "a [link](https://example.com/x?a=1&b=2) here"],
    ["<https://example.com>", "https://example.com"],
    ["<mailto:a@example.com|Ada>", "[Ada](mailto:a@example.com)"],
    ["1 &lt; 2 &amp;&amp; 3 &gt; 2", "1 < 2 && 3 > 2"],
    ["&amp;lt;", "&lt;"],
    ["*bold* _it_ `a < b > c`", "*bold* _it_ `a < b > c`"],
    ["<javascript:alert(1)|x>", "<javascript:alert(1)|x>"],
  ];
  for (const [text, expected] of cases) expect(parseSlackText({ text })).toBe(expected);
});

test("blocks are used if there is no text, and attachments are appended", () => {
  const blocks: Json = [
    { type: "header", text: { type: "plain_text", text: "Title" } },
    {
      type: "section",
      fields: [
        { type: "mrkdwn", text: "f1" },
        { type: "mrkdwn", text: "f2" },
      ],
    },
    {
      type: "context",
      elements: [
        { type: "image", alt_text: "no" },
        { type: "mrkdwn", text: "c" },
      ],
    },
    "no block",
    null,
  ];
  expect(parseSlackText({ blocks })).toBe("Title\nf1\nf2\nc");
  expect(parseSlackText({ text: "short", blocks })).toBe("short");
  const attachments: Json = [
    { pretext: "p", title: "t", title_link: "https://example.com", text: "x", fallback: "no" },
    { fields: [{ title: "Env", value: "prod" }, { title: 7 }] },
    { fallback: "only" },
  ];
  expect(parseSlackText({ text: "main", attachments })).toBe("main\np\n[t](https://example.com)\nx\nEnv: prod\nonly");
});

test("rich text is converted to lines with links and list items", () => {
  const createSection = (...elements: Json[]): Json => ({ type: "rich_text_section", elements });
  const blocks: Json = [
    {
      type: "rich_text",
      elements: [
        createSection(
          { type: "text", text: "Build ", style: { bold: true } },
          { type: "link", url: "https://ci.example.com/7", text: "7" },
          { type: "text", text: " is red " },
          { type: "emoji", name: "fire" },
        ),
        {
          type: "rich_text_list",
          elements: [createSection({ type: "text", text: "one" }), createSection({ type: "text", text: "two" })],
        },
        { type: "rich_text_preformatted", elements: [{ type: "text", text: "make: *** [all] Error 1" }] },
        7,
      ],
    },
  ];
  expect(parseSlackText({ blocks })).toBe(
    "Build [7](https://ci.example.com/7) is red :fire:\n- one\n- two\nmake: *** [all] Error 1",
  );
});

test("malformed fields are ignored", () => {
  for (const body of [{}, { text: 7 }, { text: null }, { blocks: "x" }, { attachments: [[], 1, { text: {} }] }])
    expect(parseSlackText(body as unknown as JsonObject)).toBe("");
});

test("Parley's format isn't mistaken for Slack's", () => {
  expect(isSlackFormat({ content: "x", text: "y" })).toBe(false);
  expect(isSlackFormat({ hello: 1 })).toBe(false);
  expect(isSlackFormat({ attachments: [] })).toBe(true);
});

test("a username is truncated to the maximum length of a name", () => {
  expect(parseSlackName({ username: ` ${"x".repeat(200)} ` })).toHaveLength(80);
  for (const username of ["", "  ", "a\u202eb", 7, null, undefined])
    expect(parseSlackName({ username } as JsonObject)).toBeNull();
});
