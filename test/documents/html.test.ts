import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { HTML_SOURCE_CHARS_MAX } from "../../src/modules/documents/html-page.ts";
import { createFolder, startDocuments } from "./start-documents.ts";

const folder = createFolder({
  "hostile.md": `---
title: '</title> 1 < 2 & "x"' 
---
# Hi <script>alert(1)</script> "quoted"

<script>alert(2)</script>
<!-- <b>comment</b> -->

<div onclick="alert(3)">block</div> and <img src=x onerror=alert(4)> inline

[one](javascript:alert(5)) [two](JaVaScRiPt&#58;alert(6)) [three](javascript&colon;alert(7)) [four](<java&Tab;script:alert(8)>)
[five](data:text/html,x) [six](vbscript:x) [seven]( \u0001javascript:alert(9)) <javascript:alert(10)>

[good](https://example.com/?a=1&amp;b=2 "a \\"title\\"") [relative](other.md?x=1#part) [mail](mailto:a@example.com) [anchor](#hi)

![an <b>image</b>](https://evil.example.com/pixel.png) ![x" onload="y](a.png)

[ref]: javascript:alert(11)
[a reference][ref]

\`\`\`html" onmouseover="alert(12)
<script>alert(13)</script>
\`\`\`

| a | b |
| - | - |
| <b>1</b> | [l](javascript:alert(14)) |
`,
  "headings.md": "# Same\n\n> # Same\n\n## Same\n\n## `code` & [link](x.md)\n",
  "long.md": `# Long\n\n${"word ".repeat(HTML_SOURCE_CHARS_MAX / 5)}`,
  "deep.md": `${">".repeat(100_000)} <b>deep</b>`,
});
let server: Awaited<ReturnType<typeof startDocuments>>;
let hostileResponse: Response;
let page: string;
beforeAll(async () => {
  server = await startDocuments(folder.path);
  hostileResponse = await server.get("/hostile.md", { accept: "text/html" });
  page = await hostileResponse.text();
});
afterAll(async () => {
  await server.stop();
  folder.remove();
});

describe("the page of a hostile document", () => {
  test("contains only harmless elements and attributes", async () => {
    const elements = new Map<string, Set<string>>();
    const rewriter = new HTMLRewriter().on("*", {
      element(element) {
        const names = elements.get(element.tagName) ?? new Set<string>();
        for (const [name] of element.attributes) names.add(name);
        elements.set(element.tagName, names);
      },
    });
    await rewriter.transform(new Response(page)).text();
    const allowedElements = ["html", "head", "meta", "title", "style", "body", "main", "h1", "p", "a", "pre", "code"];
    allowedElements.push("table", "thead", "tbody", "tr", "th", "td", "div", "b", "img");
    expect([...elements.keys()].filter((name) => !allowedElements.includes(name))).toEqual([]);
    expect([...(elements.get("a") ?? [])].sort()).toEqual(["href", "rel", "title"]);
    expect([...(elements.get("img") ?? [])].sort()).toEqual(["alt", "src"]);
    const otherAttributes = [...elements]
      .filter(([name]) => !["a", "img", "meta"].includes(name))
      .flatMap(([, names]) => [...names]);
    expect([...new Set(otherAttributes)].sort()).toEqual(["dir", "id"]);
  });

  test("links only to http, https and mailto URLs and to documents", async () => {
    const links: string[] = [];
    const rewriter = new HTMLRewriter().on("a", {
      element(element) {
        const href = element.getAttribute("href");
        if (href !== null) links.push(href);
      },
    });
    await rewriter.transform(new Response(page)).text();
    expect(links).toEqual(["https://example.com/?a=1&amp;b=2", "other.md?x=1#part", "mailto:a@example.com", "#hi"]);
    expect(page).toContain('rel="noopener noreferrer nofollow"');
  });

  test("contains the document's text and harmless elements", () => {
    expect(page).toContain("<title>1 &lt; 2 &amp; &quot;x&quot;</title>");
    expect(page).toContain("<div>block</div>");
    expect(page).toContain("&lt;script>alert(13)&lt;/script>");
    expect(page).not.toContain("comment");
    expect(page).toContain('<img src="https://evil.example.com/pixel.png" alt="an <b>image</b>">');
  });

  test("has a CSP that allows only the page's own style", () => {
    const policy = hostileResponse.headers.get("content-security-policy") ?? "";
    const style = /<style>(.*?)<\/style>/s.exec(page)?.[1] ?? "";
    const hash = new Bun.CryptoHasher("sha256").update(style).digest("base64");
    expect(style).not.toBe("");
    expect(policy).toBe(
      `default-src 'none'; style-src 'sha256-${hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
    );
    expect(hostileResponse.headers.get("x-content-type-options")).toBe("nosniff");
  });
});

test("the heading IDs in a page match the slugs in the JSON format", async () => {
  const body = await (await server.get("/headings.md", { accept: "text/html" })).text();
  const { headings } = (await (await server.get("/headings.md", { accept: "application/json" })).json()) as {
    headings: { slug: string; text: string }[];
  };
  expect([...body.matchAll(/<h\d id="([^"]*)"/g)].map((match) => match[1])).toEqual(headings.map(({ slug }) => slug));
  expect(headings.map(({ text, slug }) => [text, slug])).toEqual([
    ["Same", "same"],
    ["Same", "same-1"],
    ["code & link", "code--link"],
  ]);
});

test.each(["long.md", "deep.md"])(
  "%s, which is expensive to render, is shown as source text within 5 seconds",
  async (path) => {
    const startedAtMs = performance.now();
    const body = await (await server.get(`/${path}`, { accept: "text/html" })).text();
    expect(body).toContain('<pre class="plain">');
    expect(body).not.toContain("<b>deep");
    expect(performance.now() - startedAtMs).toBeLessThan(5_000);
  },
);
