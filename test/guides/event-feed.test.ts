import { expect, test } from "bun:test";
import { startApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { waitUntil } from "../support/wait-until.ts";
import { readBlocks } from "./blocks.ts";

type Frame = { type: string; seq?: number; data?: { content: string } };
type Feed = (
  id: string,
  accessToken: string,
  lastId: string | undefined,
  messages: Map<string, unknown>,
  applyFrame: (messages: Map<string, unknown>, frame: Frame) => void,
  fetch: (path: string, init: RequestInit) => Promise<Response>,
) => Promise<void>;

const source = readBlocks("docs/realtime.md").find(({ text }) => text.includes("/events`"))?.text ?? "";
const AsyncFunction = (async () => {}).constructor as new (...words: string[]) => Feed;
const readFeed = new AsyncFunction("id", "accessToken", "lastId", "messages", "applyFrame", "fetch", source);

test("the feed of docs/realtime.md reads live events, and goes on after an id", async () => {
  const parley = await startApp();
  try {
    const anna = await parley.register();
    const { id } = await createConversation(parley, anna, [], { reply_mode: "never" });
    const send = (content: string) =>
      parley.fetch(`/api/v1/conversations/${id}/messages`, { token: anna.access_token, json: { content } });
    await send("one");
    await send("two, Grüße 🚀");

    const seen: (string | undefined)[] = [];
    const stop = new AbortController();
    const reading = readFeed(
      id,
      anna.access_token,
      "1",
      new Map(),
      (_, { data }) => {
        seen.push(data?.content);
        if (data?.content === "three") stop.abort();
      },
      (path, init) => fetch(parley.url + path, { ...init, signal: stop.signal }),
    );
    const ended = reading.then(
      () => "ended",
      () => "aborted",
    );
    await waitUntil(() => seen.length === 1);
    await send("three");
    expect(await ended).toBe("aborted");
    expect(seen).toEqual(["two, Grüße 🚀", "three"]);
  } finally {
    await parley.stop();
  }
});
