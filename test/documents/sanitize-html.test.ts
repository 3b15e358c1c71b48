import { describe, expect, test } from "bun:test";
import { type DefaultTreeAdapterTypes, parse, parseFragment } from "parse5";
import { HTML_SOURCE_CHARS_MAX, renderPage } from "../../src/modules/documents/html-page.ts";
import { DEPTH_MAX } from "../../src/modules/documents/parse-html.ts";
import { isSafeLink, sanitizeHtml } from "../../src/modules/documents/sanitize-html.ts";
import { vectors } from "./xss-vectors.ts";

type Node = DefaultTreeAdapterTypes.Node;
type Element = DefaultTreeAdapterTypes.Element;

function listElements(node: Node): Element[] {
  const children = "childNodes" in node ? node.childNodes.flatMap(listElements) : [];
  return "attrs" in node ? [node, ...children] : children;
}

/** Written independently of the list under test. */
const harmless = new Set(
  (
    "html head body main h1 h2 h3 h4 h5 h6 p br hr div span blockquote pre ul ol li dl dt dd details summary table thead tbody " +
    "tr th td caption a img input b strong i em u s del ins mark small sub sup code kbd samp var abbr cite q time"
  ).split(" "),
);
const harmlessAttributes = new Set(
  "id title lang dir href name rel src alt width height class type disabled checked open start align colspan rowspan".split(
    " ",
  ),
);

/** Faults in a piece of HTML as parsed by a browser. */
function findFaults(elements: Element[]): string[] {
  const faults: string[] = [];
  for (const { tagName, attrs, namespaceURI } of elements) {
    if (!harmless.has(tagName) || !namespaceURI.endsWith("xhtml")) faults.push(`<${tagName}>`);
    for (const { name, value } of attrs) {
      const isOwn = tagName === "body" && name === "dir";
      if (!harmlessAttributes.has(name)) faults.push(`${tagName} ${name}`);
      if (["href", "src"].includes(name) && !isHarmlessAddress(value)) faults.push(`${name}=${value}`);
      const isHeading = /^h\d$/.test(tagName) && name === "id";
      if (["id", "name"].includes(name) && !isOwn && !isHeading && !value.startsWith("user-content-"))
        faults.push(`${name}=${value}`);
    }
    if (tagName === "input" && !attrs.some(({ name, value }) => name === "type" && value === "checkbox"))
      faults.push("an input that is not a checkbox");
  }
  return faults;
}

function isHarmlessAddress(address: string): boolean {
  const read = new URL(address, "https://here.test/");
  return read.host === "here.test" || /^(?:https?:\/\/|mailto:)[a-z]/.test(address);
}

describe("a corpus of attacks", () => {
  test("is large", () => {
    expect(new Set(vectors).size).toBeGreaterThan(300);
  });

  test.each(vectors.map((vector, index) => [index, vector] as const))("%i: %j", (_, vector) => {
    const elements = listElements(parse(renderPage(vector, vector)));
    const isInHead = ({ parentNode }: Element) =>
      parentNode !== null && "tagName" in parentNode && parentNode.tagName === "head";
    // The head is Parley's; nothing may be inserted.
    expect(elements.filter(isInHead).map(({ tagName }) => tagName)).toEqual(["meta", "meta", "title", "style"]);
    expect(findFaults(elements.filter((element) => !isInHead(element)))).toEqual([]);
  });

  test("as raw HTML is sanitized, and the result is stable when parsed and serialized again", () => {
    for (const vector of vectors) {
      const once = sanitizeHtml(vector, { createAnchors: (found) => found.map(() => "x") }) ?? "";
      expect(findFaults(listElements(parseFragment(once)))).toEqual([]);
      const shape = (html: string) => listElements(parseFragment(html)).map(({ tagName }) => tagName);
      const again = sanitizeHtml(once, { createAnchors: (found) => found.map(() => "x") }) ?? "";
      expect(shape(again)).toEqual(shape(once));
    }
  });

  test("is detected by the check", () => {
    const seen = vectors.filter((vector) => findFaults(listElements(parseFragment(vector))).length > 0);
    expect(seen.length).toBeGreaterThan(200);
  });
});

const render = (markdown: string): string => /<main>\n(.*)<\/main>/s.exec(renderPage("t", markdown))?.[1]?.trim() ?? "";

test.each([
  ["press <kbd>Enter <img/src=x onerror=alert(1)>", "<p>press <kbd>Enter &lt;img/src=x onerror=alert(1)></kbd></p>"],
  ["H<sub>2</sub>O <b onclick=x()>bold</b>", "<p>H<sub>2</sub>O <b>bold</b></p>"],
  ["[x](a.md#b 'c')", '<p><a href="a.md#b" title="c" rel="noopener noreferrer nofollow">x</a></p>'],
  ["![alt](pic.png)", '<p><img src="pic.png" alt="alt"></p>'],
  ["![alt](data:image/png;base64,x)", '<p><img alt="alt"></p>'],
  ["~~a~~ **b** _c_ `d`", "<p><del>a</del> <strong>b</strong> <em>c</em> <code>d</code></p>"],
  ["```ts\na < b\n```", '<pre><code class="language-ts">a &lt; b\n</code></pre>'],
  ["a<!-- b -->c", "<p>ac</p>"],
  ["<details><summary>a</summary>b</details>", "<details><summary>a</summary>b</details>"],
  ["<td>cell</td>", "cell"],
  ["<form><input name=a value=b></form>", '<input type="checkbox" disabled>'],
])("%j", (markdown, html) => {
  expect(render(markdown)).toBe(html);
});

test("tables keep their alignment, and task lists their checkboxes", () => {
  expect(render("|a|b|\n|:-|-:|\n|1|2|")).toContain('<td align="left">1</td><td align="right">2</td>');
  expect(render("- [x] done\n- [ ] open")).toMatch(
    /<li class="task-list-item"><input type="checkbox" [^>]*checked>done/,
  );
});

test("a link finds a document's own anchors, and its headings", () => {
  const html = render('<a id="own">x</a>\n\n# Part ü\n\n[a](#own) [b](#part-ü) [c](#part-%C3%BC)');
  expect(html).toContain('id="user-content-own"');
  expect([...html.matchAll(/href="([^"]*)"/g)].map(([, href]) => href)).toEqual([
    "#user-content-own",
    "#part-%C3%BC",
    "#part-%C3%BC",
  ]);
});

test.each([
  ["https://example.com", true],
  ["HTTP://example.com", true],
  ["mailto:a@example.com", true],
  ["/a:b", true],
  ["?q=a:b", true],
  ["#a:b", true],
  ["a.md", true],
  ["../a/b.md", true],
  ["", true],
  ["//example.com/x", false],
  ["/\\example.com", false],
  ["\\\\example.com", false],
  ["https:example.com", false],
  ["javascript:x", false],
  [" javascript:x", false],
  ["java\tscript:x", false],
  ["\u0000javascript:x", false],
  ["https://a\nb", false],
  ["https://[", false],
  ["file:///etc/passwd", false],
  ["blob:x", false],
])("a link to %p may be followed: %p", (href, isSafe) => {
  expect(isSafeLink(href)).toBe(isSafe);
});

test("splitting the parser's input doesn't change the result", () => {
  const piece = '<b title="😀 &amp; y">😀 &lt;x&gt; &eacute;</b><kbd onclick=x()>z</kbd>';
  const options = { createAnchors: () => [] };
  const alone = sanitizeHtml(piece, options) ?? "";
  for (let length = 2_048 - piece.length - 1; length <= 2_050; length += 1)
    expect(sanitizeHtml("x".repeat(length) + piece, options)).toBe("x".repeat(length) + alone);
});

describe("a document that would take too long", () => {
  const fill = (piece: string) => piece.repeat(Math.floor(HTML_SOURCE_CHARS_MAX / piece.length));
  const attributes = Array.from({ length: HTML_SOURCE_CHARS_MAX / 8 }, (_, index) => `a${index}`).join(" ");
  const reopened = Array.from({ length: 90 }, (_, index) => `<b id=${index} title=${"x".repeat(100)}>`).join("");
  const hostile: [string, string][] = [
    ["nested quotes", fill(">")],
    ["100,000 nested quotes", "> ".repeat(100_000)],
    ["nested lists", fill("1. ")],
    ["nested elements", fill("<div>")],
    ["nested elements in blocks", fill("<blockquote>\n\n")],
    ["attributes of one tag", `<p ${attributes}>x`],
    ["elements that are reopened", reopened + "<p>x".repeat(40_000)],
    ["misplaced table elements", `<table>${"<i></i>".repeat(30_000)}`],
    ["one reference, used often", `[a]: <${"x".repeat(100_000)}>\n\n${"[a]".repeat(40_000)}`],
    ["longer than the render limit", `<b>${fill("word ")}word`],
  ];
  test.each(hostile)("is shown as source text: %s", (_, markdown) => {
    const startedAt = performance.now();
    expect(renderPage("t", markdown)).toContain('<pre class="plain">');
    expect(performance.now() - startedAt).toBeLessThan(3_000);
  });

  test("many siblings without a parent element are rendered", () => {
    const wide = "x<br>".repeat(29_000);
    expect(render(`<foo>${wide}</foo>`)).toContain("x<br>x<br>x");
  });

  const dense = [
    "_a_",
    "*a **b ",
    "[",
    "![",
    "[a](",
    "`",
    "<a",
    "a*",
    "|a",
    "&#",
    "http://a ",
    "\\",
    '"',
    "# a\n",
    "x ",
  ];
  test.each(dense)("no marker takes long, however often it is repeated: %j", (mark) => {
    const startedAt = performance.now();
    expect(renderPage("t", fill(mark))).toContain("<main>");
    expect(performance.now() - startedAt).toBeLessThan(3_000);
  });

  test("less deep nesting is rendered", () => {
    expect(render(`${"> ".repeat(DEPTH_MAX - 10)}x`)).toStartWith("<blockquote>");
    expect(render(`${"> ".repeat(DEPTH_MAX + 10)}x`)).toStartWith('<pre class="plain">');
  });
});
