import { describe, expect, test } from "bun:test";
import { type DefaultTreeAdapterTypes, parse, parseFragment } from "parse5";
import { HTML_SOURCE_CHARS_MAX, renderDocumentPage } from "../../src/modules/documents/html-page.ts";
import { DEPTH_MAX } from "../../src/modules/documents/parse-html.ts";
import { isSafeLink, sanitizeHtml } from "../../src/modules/documents/sanitize-html.ts";
import { xssVectors } from "./xss-vectors.ts";

type Node = DefaultTreeAdapterTypes.Node;
type Element = DefaultTreeAdapterTypes.Element;

function listElements(node: Node): Element[] {
  const children = "childNodes" in node ? node.childNodes.flatMap(listElements) : [];
  return "attrs" in node ? [node, ...children] : children;
}

/** Elements that can't do any harm, listed independently of the sanitizer. */
const harmlessElements = new Set(
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

/** Finds elements and attributes that could do harm. */
function findHarmfulParts(elements: Element[]): string[] {
  const harmfulParts: string[] = [];
  for (const { tagName, attrs, namespaceURI } of elements) {
    if (!harmlessElements.has(tagName) || !namespaceURI.endsWith("xhtml")) harmfulParts.push(`<${tagName}>`);
    for (const { name, value } of attrs) {
      const isPageDirection = tagName === "body" && name === "dir";
      if (!harmlessAttributes.has(name)) harmfulParts.push(`${tagName} ${name}`);
      if (["href", "src"].includes(name) && !isHarmlessUrl(value)) harmfulParts.push(`${name}=${value}`);
      const isHeadingId = /^h\d$/.test(tagName) && name === "id";
      if (["id", "name"].includes(name) && !isPageDirection && !isHeadingId && !value.startsWith("user-content-"))
        harmfulParts.push(`${name}=${value}`);
    }
    if (tagName === "input" && !attrs.some(({ name, value }) => name === "type" && value === "checkbox"))
      harmfulParts.push("an input that is not a checkbox");
  }
  return harmfulParts;
}

function isHarmlessUrl(url: string): boolean {
  const parsed = new URL(url, "https://here.test/");
  return parsed.host === "here.test" || /^(?:https?:\/\/|mailto:)[a-z]/.test(url);
}

test("there are more than 300 distinct attack vectors", () => {
  expect(new Set(xssVectors).size).toBeGreaterThan(300);
});

describe("attack vectors", () => {
  test.each(xssVectors.map((vector, index) => [index, vector] as const))(
    "are sanitized in a page: %i, %j",
    (_, vector) => {
      const elements = listElements(parse(renderDocumentPage(vector, vector)));
      const isInHead = ({ parentNode }: Element) =>
        parentNode !== null && "tagName" in parentNode && parentNode.tagName === "head";
      // The vector must not add anything to the head.
      expect(elements.filter(isInHead).map(({ tagName }) => tagName)).toEqual(["meta", "meta", "title", "style"]);
      expect(findHarmfulParts(elements.filter((element) => !isInHead(element)))).toEqual([]);
    },
  );

  test("are sanitized as raw HTML, and sanitizing the sanitized HTML again doesn't change it", () => {
    for (const vector of xssVectors) {
      const sanitized = sanitizeHtml(vector, { createAnchors: (found) => found.map(() => "x") }) ?? "";
      expect(findHarmfulParts(listElements(parseFragment(sanitized)))).toEqual([]);
      const listTagNames = (html: string) => listElements(parseFragment(html)).map(({ tagName }) => tagName);
      const sanitizedTwice = sanitizeHtml(sanitized, { createAnchors: (found) => found.map(() => "x") }) ?? "";
      expect(listTagNames(sanitizedTwice)).toEqual(listTagNames(sanitized));
    }
  });

  test("are mostly recognized as harmful by this test if they aren't sanitized", () => {
    const detectedVectors = xssVectors.filter(
      (vector) => findHarmfulParts(listElements(parseFragment(vector))).length > 0,
    );
    expect(detectedVectors.length).toBeGreaterThan(200);
  });
});

const renderMain = (markdown: string): string =>
  /<main>\n(.*)<\/main>/s.exec(renderDocumentPage("t", markdown))?.[1]?.trim() ?? "";

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
])("the harmless parts of %j are rendered", (markdown, html) => {
  expect(renderMain(markdown)).toBe(html);
});

test("tables keep their alignment, and task lists their checkboxes", () => {
  expect(renderMain("|a|b|\n|:-|-:|\n|1|2|")).toContain('<td align="left">1</td><td align="right">2</td>');
  expect(renderMain("- [x] done\n- [ ] open")).toMatch(
    /<li class="task-list-item"><input type="checkbox" [^>]*checked>done/,
  );
});

test("links to a document's own anchors and headings work", () => {
  const html = renderMain('<a id="own">x</a>\n\n# Part ü\n\n[a](#own) [b](#part-ü) [c](#part-%C3%BC)');
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
])("isSafeLink(%j) returns %p", (href, isSafe) => {
  expect(isSafeLink(href)).toBe(isSafe);
});

test("splitting the parser's input doesn't change the result", () => {
  const sample = '<b title="😀 &amp; y">😀 &lt;x&gt; &eacute;</b><kbd onclick=x()>z</kbd>';
  const options = { createAnchors: () => [] };
  const expectedHtml = sanitizeHtml(sample, options) ?? "";
  for (let length = 2_048 - sample.length - 1; length <= 2_050; length += 1)
    expect(sanitizeHtml("x".repeat(length) + sample, options)).toBe("x".repeat(length) + expectedHtml);
});

describe("a document that is expensive to render", () => {
  const repeatToLimit = (sample: string) => sample.repeat(Math.floor(HTML_SOURCE_CHARS_MAX / sample.length));
  const attributes = Array.from({ length: HTML_SOURCE_CHARS_MAX / 8 }, (_, index) => `a${index}`).join(" ");
  const reopenedElements = Array.from({ length: 90 }, (_, index) => `<b id=${index} title=${"x".repeat(100)}>`).join(
    "",
  );
  const slowDocuments: [string, string][] = [
    ["nested quotes", repeatToLimit(">")],
    ["100,000 nested quotes", "> ".repeat(100_000)],
    ["nested lists", repeatToLimit("1. ")],
    ["nested elements", repeatToLimit("<div>")],
    ["nested elements in blocks", repeatToLimit("<blockquote>\n\n")],
    ["attributes of one tag", `<p ${attributes}>x`],
    ["elements that are reopened", reopenedElements + "<p>x".repeat(40_000)],
    ["misplaced table elements", `<table>${"<i></i>".repeat(30_000)}`],
    ["a reference used many times", `[a]: <${"x".repeat(100_000)}>\n\n${"[a]".repeat(40_000)}`],
    ["longer than the render limit", `<b>${repeatToLimit("word ")}word`],
  ];
  test.each(slowDocuments)("is shown as source text: %s", (_, markdown) => {
    const startedAtMs = performance.now();
    expect(renderDocumentPage("t", markdown)).toContain('<pre class="plain">');
    expect(performance.now() - startedAtMs).toBeLessThan(3_000);
  });

  test("is rendered if it has many sibling elements but no deep nesting", () => {
    const siblings = "x<br>".repeat(29_000);
    expect(renderMain(`<foo>${siblings}</foo>`)).toContain("x<br>x<br>x");
  });

  const markers = [
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
  test.each(markers)("is rendered within the time limit even if it repeats a marker: %j", (marker) => {
    const startedAtMs = performance.now();
    expect(renderDocumentPage("t", repeatToLimit(marker))).toContain("<main>");
    expect(performance.now() - startedAtMs).toBeLessThan(3_000);
  });

  test("is rendered only if its nesting depth is below the limit", () => {
    expect(renderMain(`${"> ".repeat(DEPTH_MAX - 10)}x`)).toStartWith("<blockquote>");
    expect(renderMain(`${"> ".repeat(DEPTH_MAX + 10)}x`)).toStartWith('<pre class="plain">');
  });
});
