import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type BrowserPage, openPage } from "../support/browser-page.ts";
import { startMockProvider } from "../support/mock-provider/server.ts";
import { startRelay } from "../support/relay.ts";
import { waitUntil } from "../support/wait-until.ts";
import { runGuide } from "./run-guide.ts";

setDefaultTimeout(180_000);

const chunks = Array.from({ length: 40 }, (_, n) => `🚀${n} `);

/** Returns what a page shows: its messages, the note below them, and its buttons. */
const parsePageQuery = async (page: BrowserPage) =>
  page.evaluate<{ rows: string[]; note: string; buttons: string[] }>(`({
    rows: [...document.querySelectorAll("#messages li")].map(({ textContent }) => textContent),
    note: document.querySelector("#note").textContent,
    buttons: [...document.querySelectorAll("#list button")].map(({ textContent }) => textContent),
  })`);

const waitForPage = (page: BrowserPage, matches: (content: Awaited<ReturnType<typeof parsePageQuery>>) => boolean) =>
  waitUntil(async () => matches(await parsePageQuery(page)), 30_000).catch(async () => {
    throw new Error(`The page shows ${JSON.stringify(await parsePageQuery(page))}.`);
  });

const typeText = (page: BrowserPage, text: string) =>
  page.evaluate(`(() => {
    const input = document.querySelector("#composer input");
    input.value = ${JSON.stringify(text)};
    input.dispatchEvent(new Event("input", { bubbles: true }));
  })()`);
const submitMessage = (page: BrowserPage) => page.evaluate('document.querySelector("#composer").requestSubmit()');

async function openChat(url: string, email: string): Promise<BrowserPage> {
  const page = await openPage(url);
  await page.evaluate(`(() => {
    document.querySelector("[name=email]").value = "${email}";
    document.querySelector("[name=password]").value = "correct horse battery";
    document.querySelector("#login").requestSubmit();
  })()`);
  await waitForPage(page, ({ buttons }) => buttons.some((text) => text.startsWith("Team")));
  await page.evaluate('document.querySelector("#list button").click()');
  return page;
}

test("the commands in docs/chat-client.md work as written, and the page works in two browsers despite a lost connection", async () => {
  const provider = startMockProvider();
  provider.script("slow", { pieces: chunks, pieceDelayMs: 100 });
  const pages: BrowserPage[] = [];
  try {
    await runGuide("docs/chat-client.md", {
      ports: [3000, 8080],
      env: { COMPATIBLE_BASE_URL: provider.openaiUrl, AI_MODELS: "compatible/slow" },
      async checkResults({ folder, url, ports }) {
        // Ada's page connects through a relay, so that the connection can be cut.
        const relay = startRelay(
          { hostname: "127.0.0.1", port: 0 },
          { hostname: "127.0.0.1", port: Number(new URL(url).port) },
        );
        const script = readFileSync(join(folder, "chat.js"), "utf8");
        writeFileSync(join(folder, "ada.js"), script.replace(url, `http://localhost:${relay.port}`));
        const html = readFileSync(join(folder, "chat.html"), "utf8");
        writeFileSync(join(folder, "ada.html"), html.replace("chat.js", "ada.js"));
        const site = `http://localhost:${ports.get(8080)}`;
        const ada = await openChat(`${site}/ada.html`, "ada@example.com");
        const bob = await openChat(`${site}/chat.html`, "bob@example.com");
        pages.push(ada, bob);

        // Bob's page shows messages once it has subscribed. A typing indicator that is sent earlier would be lost.
        await ada.evaluate('document.querySelector("#composer input").value = "Hello!"');
        await submitMessage(ada);
        await waitForPage(bob, ({ rows }) => rows[0] === "Ada: Hello!");
        await typeText(ada, "");
        await waitForPage(bob, ({ note }) => note === "Somebody is typing …");

        // The answer grows on both pages. Then Ada's connection is lost, and she sends a message.
        const answer = `Model: ${chunks.join("")}`;
        for (const page of pages) {
          await waitForPage(page, ({ rows }) => /🚀3 /.test(rows[1] ?? ""));
          expect(answer).toStartWith((await parsePageQuery(page)).rows[1] ?? "nothing");
        }
        relay.cut();
        relay.reset();
        await waitForPage(ada, ({ note }) => note === "Reconnecting …");
        await typeText(ada, "Are you there?");
        await submitMessage(ada);
        expect((await parsePageQuery(ada)).rows.at(-1)).toBe("(sending) Are you there?");
        await typeText(bob, "Ada seems to be offline.");
        await submitMessage(bob);
        await waitForPage(bob, ({ rows }) => rows.includes("Bob: Ada seems to be offline."));
        relay.restore();
        await waitForPage(ada, ({ rows }) => /🚀30 /.test(rows[1] ?? ""));
        expect(answer).toStartWith((await parsePageQuery(ada)).rows[1] ?? "nothing");
        for (const page of pages)
          await waitForPage(page, ({ rows, note }) => rows.filter((row) => row === answer).length === 3 && note === "");
        const [adaContent, bobContent] = [await parsePageQuery(ada), await parsePageQuery(bob)];
        expect(adaContent.rows).toEqual(bobContent.rows);
        expect(adaContent.rows.filter((row) => !row.startsWith("Model: ")).sort()).toEqual([
          "Ada: Are you there?",
          "Ada: Hello!",
          "Bob: Ada seems to be offline.",
        ]);
        relay.stop();
      },
    });
  } finally {
    for (const page of pages) await page.close();
    await provider.stop();
  }
});
