import { afterAll, beforeAll, expect, test } from "bun:test";
import { renderAsyncApiPage } from "../../src/http/asyncapi/render-page.ts";
import { closeCodes } from "../../src/protocol/close-codes.ts";
import { clientFrames } from "../../src/protocol/frames.ts";
import { realtimeLimits } from "../../src/protocol/limits.ts";
import { pushes } from "../../src/protocol/pushes.ts";
import { startApp, type TestApp } from "../support/app.ts";

let parley: TestApp;
let response: Response;
let page: string;
beforeAll(async () => {
  parley = await startApp();
  response = await parley.fetch("/asyncapi");
  page = await response.text();
});
afterAll(() => parley.stop());

const listMatches = (pattern: RegExp) => [...page.matchAll(pattern)].map(([, found = ""]) => found);

test("/asyncapi is a public page with an ETag", async () => {
  expect([response.status, response.headers.get("content-type")]).toEqual([200, "text/html; charset=utf-8"]);
  const cachedResponse = await parley.fetch("/asyncapi", {
    headers: { "if-none-match": response.headers.get("etag") ?? "" },
  });
  expect([cachedResponse.status, cachedResponse.headers.get("content-type")]).toEqual([304, null]);
});

test("the page loads no other resources, and its content security policy allows only its own script and style", () => {
  expect(page).not.toMatch(/https?:\/\//);
  expect(page).not.toMatch(/<(?:script|link(?! rel="alternate")|img|iframe)[^>]* (?:src|href)="(?!data:,)/);
  const policy = response.headers.get("content-security-policy") ?? "";
  expect(policy).toContain("default-src 'none'");
  expect(policy).not.toContain("unsafe");
  for (const tag of ["script", "style"]) {
    const text = new RegExp(`<${tag}>(.*?)</${tag}>`, "s").exec(page)?.[1] ?? "";
    expect(policy).toContain(`${tag}-src 'sha256-${new Bun.CryptoHasher("sha256").update(text).digest("base64")}'`);
  }
});

test("the page has every client frame, push, close code and limit, and this server's URL", () => {
  const titles = listMatches(/<article [^>]*><h3><a href="[^"]+">([^<]+)</g);
  const { ack: _, ...otherPushes } = pushes;
  const closeCodeTitles = Object.entries(closeCodes).map(([name, { code }]) => `${code} ${name}`);
  expect(titles).toEqual(
    expect.arrayContaining([...Object.keys(clientFrames), ...Object.keys(otherPushes), ...closeCodeTitles]),
  );
  for (const name of Object.keys(realtimeLimits)) expect(page).toContain(`<td><code>${name}</code></td>`);
  expect(page).toContain(`<code>${parley.url.replace("http", "ws")}/realtime</code>`);
  // The page shows each field with its type and description, each ack below its frame, and examples.
  expect(page).toContain(
    '<code>after_seq</code> <span class="note">optional</span></th><td>integer, at least 0 or null</td><td>The highest <code>seq</code> that you have received.',
  );
  expect(page).toContain('<h4 id="message-SubscribeAck">ack</h4>');
  expect(page).toContain("&quot;type&quot;: &quot;message.send&quot;");
});

test("every link on the page leads to an anchor, and every anchor is unique", () => {
  const ids = listMatches(/<[a-z\d]+[^>]* id="([^"]+)"/g);
  expect(ids.length).toBeGreaterThan(80);
  expect(ids.filter((id, index) => ids.indexOf(id) !== index)).toEqual([]);
  expect(listMatches(/<a [^>]*href="#([^"]+)"/g).filter((target) => !ids.includes(target))).toEqual([]);
});

test("the page escapes all text from the document", () => {
  const html = '<img src=x onerror="alert(1)">\'&`<b>`';
  const injectHtml = (value: unknown): unknown => {
    if (typeof value === "string") return value.includes("/") ? value : `${value}${html}`;
    if (Array.isArray(value)) return value.map(injectHtml);
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([key, nested]) => [key, injectHtml(nested)]));
  };
  const message = {
    name: "shout",
    title: "shout",
    summary: "s",
    payload: { $ref: "#/components/schemas/Shout" },
    examples: [{ payload: { type: "shout" } }],
  };
  const properties = {
    [html]: { type: "string", description: "d", format: "f" },
    kind: { enum: ["a"] },
    only: { const: "b" },
    nested: { type: "object", properties: { [html]: { type: "array", items: { type: "string" } } } },
  };
  const unsafeDocument = injectHtml({
    info: { version: "1", description: "d" },
    servers: { parley: { protocol: "ws", host: "h" } },
    channels: {
      realtime: {
        address: "a",
        description: "d",
        bindings: { ws: { headers: { properties }, query: { properties } } },
        "x-close-codes": [{ code: 4001, name: "n", reason: "r", verdict: "v", remedy: "m" }],
        "x-limits": [{ name: "n", value: 1, unit: "u", effect: "e" }],
      },
      webhooks: { description: "d" },
    },
    operations: {
      receiveShout: {
        action: "receive",
        channel: { $ref: "#/channels/realtime" },
        messages: [{ $ref: "#/components/messages/Shout" }],
        summary: "s",
        reply: { messages: [{ $ref: "#/components/messages/Shout" }] },
      },
    },
    components: {
      messages: { Shout: message },
      schemas: { Shout: { type: "object", properties }, Other: { description: "d", properties } },
      securitySchemes: { bearer: { description: "d" } },
    },
  }) as Record<string, unknown>;
  // Restores `action`, because it is a keyword and not text.
  const operations = unsafeDocument.operations as { receiveShout: { action: string } };
  operations.receiveShout.action = "receive";
  const renderedPage = renderAsyncApiPage(unsafeDocument as never);
  expect(renderedPage.split("&lt;img src=x").length).toBeGreaterThan(15);
  expect(renderedPage).not.toContain("<img");
  expect(renderedPage).not.toContain("<b>");
});
