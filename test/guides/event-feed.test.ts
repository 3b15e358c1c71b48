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

const code = readBlocks("docs/realtime.md").find(({ text }) => text.includes("/events`"))?.text ?? "";
const AsyncFunction = (async () => {}).constructor as new (...words: string[]) => Feed;
const readFeed = new AsyncFunction("id", "accessToken", "lastId", "messages", "applyFrame", "fetch", code);

test("the event feed code in docs/realtime.md reads new events and resumes after an id", async () => {
  const parley = await startApp();
  try {
    const anna = await parley.register();
    const { id } = await createConversation(parley, anna, [], { reply_mode: "never" });
    const sendMessage = (content: string) =>
      parley.fetch(`/api/v1/conversations/${id}/messages`, { token: anna.access_token, json: { content } });
    await sendMessage("one");
    await sendMessage("two, Grüße 🚀");

    const contents: (string | undefined)[] = [];
    const controller = new AbortController();
    const feedPromise = readFeed(
      id,
      anna.access_token,
      "1",
      new Map(),
      (_, { data }) => {
        contents.push(data?.content);
        if (data?.content === "three") controller.abort();
      },
      (path, init) => fetch(parley.url + path, { ...init, signal: controller.signal }),
    );
    const outcome = feedPromise.then(
      () => "ended",
      () => "aborted",
    );
    await waitUntil(() => contents.length === 1);
    await sendMessage("three");
    expect(await outcome).toBe("aborted");
    expect(contents).toEqual(["two, Grüße 🚀", "three"]);
  } finally {
    await parley.stop();
  }
});
