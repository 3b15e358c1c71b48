import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { openSocket } from "../support/socket.ts";

const DELAY_MS = 200;

/** A provider that delays its first token. */
const provider = Bun.serve({
  port: 0,
  async fetch() {
    await Bun.sleep(DELAY_MS);
    const response = { id: "resp_1", object: "response", status: "completed", output: [] };
    const events = [
      { type: "response.output_text.delta", item_id: "msg_1", output_index: 0, content_index: 0, delta: "Late." },
      { type: "response.completed", response },
    ].map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`);
    return new Response(events.join(""), { headers: { "content-type": "text/event-stream" } });
  },
});
let parley: TestApp;
let anna: Account;
beforeAll(async () => {
  const config = {
    OPENAI_API_KEY: "sk-test",
    OPENAI_BASE_URL: `http://127.0.0.1:${provider.port}/v1`,
    AI_MODELS: "openai/one",
  };
  parley = await startApp({ config });
  anna = await parley.register();
});
afterAll(async () => {
  await parley.stop();
  await provider.stop(true);
});

const findStoredAnswer = async (conversationId: string) => {
  const [row] = await parley.database<{ first_token_ms: number | null; metadata: { requested_by?: string } }[]>`
    select first_token_ms, metadata from messages where conversation_id = ${conversationId} and role = 'assistant'`;
  return row;
};

test("an answer is stored with its time to first token, which isn't shown to clients", async () => {
  const { id: conversation_id } = await createConversation(parley, anna);
  const socket = await openSocket(parley.url, { token: anna.access_token });
  await socket.request({ type: "subscribe", conversation_id });
  await socket.request({ type: "message.send", conversation_id, client_message_id: "1", content: "Go.", reply: true });
  const completedFrame = await socket.waitFor(({ type }) => type === "message.completed");
  expect(JSON.stringify(completedFrame)).not.toContain("first_token");
  expect((await findStoredAnswer(conversation_id))?.first_token_ms).toBeGreaterThanOrEqual(DELAY_MS - 5);
  await socket.close();
});

test("a /v1 answer to a request without user messages is stored with its time to first token and its requester", async () => {
  const { id: conversation_id } = await createConversation(parley, anna);
  const response = await parley.fetch("/v1/chat/completions", {
    token: anna.access_token,
    json: { model: "openai/one", messages: [{ role: "system", content: "Go." }], metadata: { conversation_id } },
  });
  expect(response.status).toBe(200);
  const storedAnswer = await findStoredAnswer(conversation_id);
  expect(storedAnswer?.first_token_ms).toBeGreaterThanOrEqual(DELAY_MS - 5);
  expect(storedAnswer?.metadata.requested_by).toBe(anna.user.id);
  const listResponse = await parley.fetch(`/api/v1/conversations/${conversation_id}/messages`, {
    token: anna.access_token,
  });
  expect(await listResponse.text()).not.toContain("requested_by");
});
