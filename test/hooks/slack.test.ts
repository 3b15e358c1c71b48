import { expect, test } from "bun:test";
import type { Json, JsonObject } from "../../src/lib/json.ts";
import { isSlackForm, readSlackName, readSlackText } from "../../src/modules/hooks/slack.ts";

test("converts Slack's links and entities to Markdown and keeps the rest", () => {
  const cases: [string, string][] = [
    ["a <https://example.com/x?a=1&amp;b=2|link> here", "a [link](https://example.com/x?a=1&b=2) here"],
    ["<https://example.com>", "https://example.com"],
    ["<mailto:a@example.com|Ada>", "[Ada](mailto:a@example.com)"],
    ["1 &lt; 2 &amp;&amp; 3 &gt; 2", "1 < 2 && 3 > 2"],
    ["&amp;lt;", "&lt;"],
    ["*bold* _it_ `a < b > c`", "*bold* _it_ `a < b > c`"],
    ["<javascript:alert(1)|x>", "<javascript:alert(1)|x>"],
  ];
  for (const [text, expected] of cases) expect(readSlackText({ text })).toBe(expected);
});

test("uses blocks if there is no text, and appends attachments", () => {
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
  expect(readSlackText({ blocks })).toBe("Title\nf1\nf2\nc");
  expect(readSlackText({ text: "short", blocks })).toBe("short");
  const attachments: Json = [
    { pretext: "p", title: "t", title_link: "https://example.com", text: "x", fallback: "no" },
    { fields: [{ title: "Env", value: "prod" }, { title: 7 }] },
    { fallback: "only" },
  ];
  expect(readSlackText({ text: "main", attachments })).toBe("main\np\n[t](https://example.com)\nx\nEnv: prod\nonly");
});

test("converts rich text to lines, with links and list items", () => {
  const section = (...elements: Json[]): Json => ({ type: "rich_text_section", elements });
  const blocks: Json = [
    {
      type: "rich_text",
      elements: [
        section(
          { type: "text", text: "Build ", style: { bold: true } },
          { type: "link", url: "https://ci.example.com/7", text: "7" },
          { type: "text", text: " is red " },
          { type: "emoji", name: "fire" },
        ),
        {
          type: "rich_text_list",
          elements: [section({ type: "text", text: "one" }), section({ type: "text", text: "two" })],
        },
        { type: "rich_text_preformatted", elements: [{ type: "text", text: "make: *** [all] Error 1" }] },
        7,
      ],
    },
  ];
  expect(readSlackText({ blocks })).toBe(
    "Build [7](https://ci.example.com/7) is red :fire:\n- one\n- two\nmake: *** [all] Error 1",
  );
});

test("ignores malformed fields", () => {
  for (const body of [{}, { text: 7 }, { text: null }, { blocks: "x" }, { attachments: [[], 1, { text: {} }] }])
    expect(readSlackText(body as unknown as JsonObject)).toBe("");
});

test("does not take our own format for Slack's", () => {
  expect(isSlackForm({ content: "x", text: "y" })).toBe(false);
  expect(isSlackForm({ hello: 1 })).toBe(false);
  expect(isSlackForm({ attachments: [] })).toBe(true);
});

test("cuts a username to the length of a name", () => {
  expect(readSlackName({ username: ` ${"x".repeat(200)} ` })).toHaveLength(80);
  for (const username of ["", "  ", "a\u202eb", 7, null, undefined])
    expect(readSlackName({ username } as JsonObject)).toBeNull();
});
