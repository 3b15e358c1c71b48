import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type BrowserPage, openPage } from "../support/browser-page.ts";
import { startMockProvider } from "../support/mock-provider/server.ts";
import { startRelay } from "../support/relay.ts";
import { waitUntil } from "../support/wait-until.ts";
import { runGuide } from "./run-guide.ts";

setDefaultTimeout(180_000);

const pieces = Array.from({ length: 40 }, (_, n) => `🚀${n} `);

/** What a reader sees: the texts of the messages, and the note below them. */
const look = async (page: BrowserPage) =>
  page.evaluate<{ rows: string[]; note: string; buttons: string[] }>(`({
    rows: [...document.querySelectorAll("#messages li")].map(({ textContent }) => textContent),
    note: document.querySelector("#note").textContent,
    buttons: [...document.querySelectorAll("#list button")].map(({ textContent }) => textContent),
  })`);

const until = (page: BrowserPage, isSo: (seen: Awaited<ReturnType<typeof look>>) => boolean) =>
  waitUntil(async () => isSo(await look(page)), 30_000).catch(async () => {
    throw new Error(`The page shows ${JSON.stringify(await look(page))}.`);
  });

const type = (page: BrowserPage, text: string) =>
  page.evaluate(`(() => {
    const input = document.querySelector("#composer input");
    input.value = ${JSON.stringify(text)};
    input.dispatchEvent(new Event("input", { bubbles: true }));
  })()`);
const submit = (page: BrowserPage) => page.evaluate('document.querySelector("#composer").requestSubmit()');

async function openChat(url: string, email: string): Promise<BrowserPage> {
  const page = await openPage(url);
  await page.evaluate(`(() => {
    document.querySelector("[name=email]").value = "${email}";
    document.querySelector("[name=password]").value = "correct horse battery";
    document.querySelector("#login").requestSubmit();
  })()`);
  await until(page, ({ buttons }) => buttons.some((text) => text.startsWith("Team")));
  await page.evaluate('document.querySelector("#list button").click()');
  return page;
}

test("docs/chat-client.md: its page works in two browsers, and loses nothing with its connection", async () => {
  const provider = startMockProvider();
  provider.script("slow", { pieces, pieceDelayMs: 100 });
  const pages: BrowserPage[] = [];
  try {
    await runGuide("docs/chat-client.md", {
      ports: [3000, 8080],
      env: { COMPATIBLE_BASE_URL: provider.openaiUrl, AI_MODELS: "compatible/slow" },
      async afterwards({ folder, url, ports }) {
        // Ada's page reaches Parley through a connection that can be lost.
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

        // Bob's page shows messages once it has subscribed; a typing indicator before that would be lost.
        await ada.evaluate('document.querySelector("#composer input").value = "Hello!"');
        await submit(ada);
        await until(bob, ({ rows }) => rows[0] === "Ada: Hello!");
        await type(ada, "");
        await until(bob, ({ note }) => note === "Somebody is typing …");

        // The answer grows in both; then Ada's connection is lost, and she types into the dead page.
        const answer = `Model: ${pieces.join("")}`;
        for (const page of pages) {
          await until(page, ({ rows }) => /🚀3 /.test(rows[1] ?? ""));
          expect(answer).toStartWith((await look(page)).rows[1] ?? "nothing");
        }
        relay.cut();
        relay.reset();
        await until(ada, ({ note }) => note === "Reconnecting …");
        await type(ada, "Are you there?");
        await submit(ada);
        expect((await look(ada)).rows.at(-1)).toBe("(sending) Are you there?");
        await type(bob, "Ada seems to be gone.");
        await submit(bob);
        await until(bob, ({ rows }) => rows.includes("Bob: Ada seems to be gone."));
        relay.restore();
        await until(ada, ({ rows }) => /🚀30 /.test(rows[1] ?? ""));
        expect(answer).toStartWith((await look(ada)).rows[1] ?? "nothing");
        for (const page of pages)
          await until(page, ({ rows, note }) => rows.filter((row) => row === answer).length === 3 && note === "");
        const [seenByAda, seenByBob] = [await look(ada), await look(bob)];
        expect(seenByAda.rows).toEqual(seenByBob.rows);
        expect(seenByAda.rows.filter((row) => !row.startsWith("Model: ")).sort()).toEqual([
          "Ada: Are you there?",
          "Ada: Hello!",
          "Bob: Ada seems to be gone.",
        ]);
        relay.stop();
      },
    });
  } finally {
    for (const page of pages) await page.close();
    await provider.stop();
  }
});
