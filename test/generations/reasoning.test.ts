import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { linkBuses } from "../support/linked-buses.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createRest } from "../support/rest.ts";
import { type Frame, openSocket, type TestSocket } from "../support/socket.ts";

type Message = {
  id: string;
  status: string;
  content: string;
  reasoning: string | null;
  model: string;
  metadata: { models?: string[] };
  usage: { output_tokens: number; reasoning_tokens: number };
};

/** Two instances that store reasoning, with a shared database and bus; and two that don't, with other databases. */
const link = linkBuses();
let provider: MockProvider;
let shared: Awaited<ReturnType<typeof createTestDatabase>>;
let first: TestApp;
let second: TestApp;
let anna: Account;
let ben: Account;
let outsider: Account;
let conversation_id: string;
let socket: TestSocket;

const configure = (more: Record<string, string> = {}) => ({
  OPENAI_API_KEY: "sk-test",
  OPENAI_BASE_URL: provider.openaiUrl,
  ANTHROPIC_API_KEY: "sk-ant-test",
  ANTHROPIC_BASE_URL: provider.anthropicUrl,
  COMPATIBLE_BASE_URL: provider.openaiUrl,
  AI_MODELS: "compatible/three,openai/one,anthropic/two,compatible/cut,compatible/fails",
  AI_MAX_RETRIES: "0",
  ...more,
});

beforeAll(async () => {
  provider = startMockProvider();
  shared = await createTestDatabase(10);
  first = await startApp({ database: shared, config: configure(), bus: link.buses[0] });
  second = await startApp({ database: shared, config: configure(), bus: link.buses[1] });
  [anna, ben, outsider] = await Promise.all([first.register(), first.register(), first.register()]);
});
beforeEach(async () => {
  provider.reset();
  conversation_id = (await createConversation(first, anna, [ben], { reply_mode: "always" })).id;
  socket = await openSocket(first.url, { token: anna.access_token });
  await socket.request({ type: "subscribe", conversation_id });
});
afterAll(async () => {
  await Promise.all([first.stop(), second.stop()]);
  await shared.database.end({ timeout: 1 });
  await provider.stop();
});

const thinkingScript = {
  thinking: Array.from({ length: 30 }, (_, n) => `🤔 ${n} `),
  pieces: ["The ", "answer."],
  pieceDelayMs: 8,
};
const fullReasoning = thinkingScript.thinking.join("");

/**
 * Scripts a model that thinks until told to write, so that others can join. @returns a function that makes it write.
 */
function scriptThinkingModel(more: object = {}): () => void {
  const { promise, resolve } = Promise.withResolvers<void>();
  provider.script("three", { ...thinkingScript, ...more, thinkUntil: promise });
  return resolve;
}

const send = (content: string, more: object = {}, from = socket, id = conversation_id) =>
  from.request({ type: "message.send", conversation_id: id, content, client_message_id: content, ...more });
const isCompleted = (frame: Frame) => frame.type === "message.completed";
const isReasoningDelta = (frame: Frame) => frame.type === "message.delta" && frame.part === "reasoning";
const waitUntilCompleted = async (reader = socket): Promise<Message> =>
  (await reader.waitFor(isCompleted, 20_000)).data as unknown as Message;

const find = async (id: string, app = first, account = anna): Promise<Message> =>
  (await createRest(app, account).get<Message>(`/conversations/${conversation_id}/messages/${id}`)).body;

/** Assembles an answer as a reader does; a gap or a repeat fails the test. */
function read(frames: Frame[], messageId: string): { content: string; reasoning: string } {
  const answer = { content: "", reasoning: "" };
  for (const frame of frames) {
    if (frame.message_id !== messageId) continue;
    if (frame.type === "message.reset")
      Object.assign(answer, { content: frame.text, reasoning: frame.reasoning ?? "" });
    if (frame.type !== "message.delta") continue;
    const part = frame.part === "reasoning" ? "reasoning" : "content";
    expect(frame.offset).toBe(answer[part].length);
    answer[part] += frame.text;
  }
  return answer;
}

async function waitUntil(check: () => Promise<boolean>, waitMs = 15_000): Promise<void> {
  const endsAtMs = performance.now() + waitMs;
  while (!(await check())) {
    if (performance.now() > endsAtMs) throw new Error(`The condition was not met in ${waitMs} ms.`);
    await Bun.sleep(25);
  }
}

describe("a model's reasoning", () => {
  test.each(["openai/one", "anthropic/two", "compatible/three"])(
    "%s: is streamed, stored and counted",
    async (model) => {
      provider.script(model.split("/")[1] ?? "", { ...thinkingScript, usage: false });
      await send("Think.", { model });
      const completed = await waitUntilCompleted();
      expect(completed).toMatchObject({ status: "complete", content: "The answer.", reasoning: fullReasoning });
      expect(read(socket.frames, completed.id)).toEqual({ content: "The answer.", reasoning: fullReasoning });
      // Before the text, and at most coalesced.
      const kinds = socket.frames.filter(({ type }) => type === "message.delta").map(({ part = "text" }) => part);
      expect(kinds.lastIndexOf("reasoning")).toBeLessThan(kinds.indexOf("text"));
      const { output_tokens, reasoning_tokens } = completed.usage;
      expect(reasoning_tokens).toBeGreaterThan(30);
      expect(output_tokens).toBeGreaterThan(reasoning_tokens);
      expect(output_tokens).toBeLessThan(reasoning_tokens + 20);
      expect(await find(completed.id)).toEqual(completed);
      const metrics = await first.metrics.registry.getSingleMetricAsString("parley_ai_tokens_total");
      expect(metrics).toContain(`{model="${model}",kind="reasoning"} ${reasoning_tokens}`);
      expect(metrics).toContain(`{model="${model}",kind="output"} ${output_tokens}`);
    },
  );

  test("is visible to members only", async () => {
    const write = scriptThinkingModel();
    const outsiderSocket = await openSocket(first.url, { token: outsider.access_token });
    expect(await outsiderSocket.request({ type: "subscribe", conversation_id })).toMatchObject({ code: "not_found" });
    await send("Think.");
    const { message_id } = await socket.waitFor(isReasoningDelta);
    const path = `/api/v1/conversations/${conversation_id}/messages/${message_id}`;
    expect((await first.fetch(path, { token: outsider.access_token })).status).toBe(404);
    expect((await find(String(message_id), first, ben)).reasoning).not.toBeNull();
    write();
    await waitUntilCompleted();
    expect(outsiderSocket.frames.map(({ type }) => type)).toEqual(["ready", "error"]);
    await outsiderSocket.close();
  });

  test("isn't searchable, and isn't sent to models", async () => {
    provider.script("three", { thinking: ["Quokkaesque musings."], pieces: ["Wombatlike answer."] });
    await send("Think.");
    await waitUntilCompleted();
    const rest = createRest(first, anna);
    const search = async (word: string) => (await rest.get<{ data: unknown[] }>(`/search?q=${word}`)).body.data.length;
    await waitUntil(async () => (await search("wombatlike")) === 1);
    expect(await search("quokkaesque")).toBe(0);
    await send("And now?");
    await waitUntil(async () => provider.requestsOf("three").length === 2);
    const request = JSON.stringify(provider.requestsOf("three")[1]?.body);
    expect(request).toContain("Wombatlike");
    expect(request).not.toContain("Quokkaesque");
  });

  test("is dropped if its model fails before it writes text", async () => {
    provider.script("fails", { ...thinkingScript, pieces: [], fault: "cut", after: 0 });
    provider.script("three", { thinking: ["Better."], pieces: ["Done."] });
    await send("Think.", { model: "compatible/fails" });
    const completed = await waitUntilCompleted();
    expect(completed).toMatchObject({ content: "Done.", reasoning: "Better.", model: "compatible/three" });
    expect(completed.metadata.models).toEqual(["compatible/three"]);
    const [reset] = socket.list("message.reset");
    expect(reset).toMatchObject({ attempt: 2, text: "" });
    expect(reset).not.toHaveProperty("reasoning");
    expect(read(socket.frames, completed.id)).toEqual({ content: "Done.", reasoning: "Better." });
  });

  test("is kept with its text if another model continues", async () => {
    provider.script("cut", {
      thinking: ["Count."],
      pieces: ["One ", "two "],
      pieceDelayMs: 30,
      fault: "cut",
      after: 2,
    });
    provider.script("three", { thinking: ["Go on."], pieces: ["three."] });
    await send("Think.", { model: "compatible/cut" });
    const completed = await waitUntilCompleted();
    expect(completed).toMatchObject({ content: "One two three.", reasoning: "Count.\n\nGo on." });
    expect(socket.list("message.reset")).toMatchObject([{ text: "One two ", reasoning: "Count." }]);
    expect(read(socket.frames, completed.id)).toEqual({ content: "One two three.", reasoning: "Count.\n\nGo on." });
  });

  test("stays with a stopped answer", async () => {
    scriptThinkingModel();
    await send("Think.");
    const { message_id } = await socket.waitFor(isReasoningDelta);
    await socket.request({ type: "generation.cancel", conversation_id, message_id });
    const completed = await waitUntilCompleted();
    expect(completed).toMatchObject({ status: "cancelled", content: "" });
    expect(fullReasoning).toStartWith(String(completed.reasoning));
    expect(read(socket.frames, completed.id).reasoning).toBe(String(completed.reasoning));
  });

  test("is deleted with the message", async () => {
    provider.script("three", { thinking: ["A secret."], pieces: ["Done."] });
    await send("Think.");
    const { id } = await waitUntilCompleted();
    await socket.request({ type: "message.delete", conversation_id, message_id: id });
    expect(await find(id)).toMatchObject({ content: "", reasoning: null });
    const path = `/api/v1/conversations/${conversation_id}/export?format=markdown`;
    expect(await (await first.fetch(path, { token: anna.access_token })).text()).not.toContain("secret");
  });

  test("is a closed block in the exported Markdown, whatever it contains", async () => {
    provider.script("three", { thinking: ["Is it </details>?\n"], pieces: ["Done."] });
    await send("Think.");
    await waitUntilCompleted();
    const path = `/api/v1/conversations/${conversation_id}/export?format=markdown`;
    const text = await (await first.fetch(path, { token: anna.access_token })).text();
    expect(text).toEndWith(
      "\n<details>\n<summary>Reasoning</summary>\n\nIs it &lt;/details>?\n\n</details>\n\nDone.\n",
    );
  });
});

describe("readers who join while a model thinks", () => {
  test("get the reasoning so far, and continue from there, on both instances", async () => {
    const write = scriptThinkingModel();
    const early = await openSocket(second.url, { token: ben.access_token });
    await early.request({ type: "subscribe", conversation_id });
    await send("Think.");
    await socket.waitFor((frame) => isReasoningDelta(frame) && String(frame.text).includes("10"));
    const late = await Promise.all([first, second].map(({ url }) => openSocket(url, { token: ben.access_token })));
    await Promise.all(late.map((reader) => reader.request({ type: "subscribe", conversation_id })));
    write();
    const readers = [socket, early, ...late];
    const [{ id }] = (await Promise.all(readers.map(waitUntilCompleted))) as [Message];
    for (const reader of readers)
      expect(read(reader.frames, id)).toEqual({ content: "The answer.", reasoning: fullReasoning });
    // Late readers started in the middle of it.
    for (const reader of late) {
      const start = reader.frames.find(({ message_id }) => message_id === id);
      expect(start).toMatchObject({ type: "message.reset", text: "" });
      expect(String(start?.reasoning).length).toBeWithin(1, fullReasoning.length);
    }
    await Promise.all([early, ...late].map((reader) => reader.close()));
  });

  test("see it in the message, on the writing instance and on others", async () => {
    const write = scriptThinkingModel();
    await send("Think.");
    const { message_id } = await socket.waitFor(isReasoningDelta);
    const here = await find(String(message_id), first);
    expect(here).toMatchObject({ status: "streaming", content: "" });
    expect(fullReasoning).toStartWith(String(here.reasoning));
    // Stored with the next piece.
    await waitUntil(async () => (await find(String(message_id), second)).reasoning !== null);
    expect(fullReasoning).toStartWith(String((await find(String(message_id), second)).reasoning));
    write();
    await waitUntilCompleted();
  });

  test("get it as server events, with the message that they sent and later", async () => {
    const write = scriptThinkingModel();
    const open = (app: TestApp, path: string, options: object = {}) =>
      app.fetch(`/api/v1/conversations/${conversation_id}${path}`, {
        token: anna.access_token,
        headers: { accept: "text/event-stream" },
        ...options,
      });
    const json = { content: "Think.", client_message_id: "sse" };
    const own = await open(first, "/messages", { json });
    await socket.waitFor(isReasoningDelta);
    const again = [await open(first, "/messages", { json }), await open(second, "/messages", { json })];
    const feed = await open(second, "/events");
    write();
    const readFrames = async (response: Response, isLast: (text: string) => boolean): Promise<Frame[]> => {
      expect(response.status).toBeLessThan(300);
      let text = "";
      const decoder = new TextDecoder();
      for await (const bytes of response.body as AsyncIterable<Uint8Array>) {
        text += decoder.decode(bytes, { stream: true });
        if (isLast(text)) break;
      }
      return [...text.matchAll(/^data: (.*)$/gm)].map(([, data]) => JSON.parse(String(data)) as Frame);
    };
    const hasEnd = (text: string) => /^data: .*"message\.completed".*\n\n/m.test(text);
    const streams = await Promise.all([own, ...again, feed].map((response) => readFrames(response, hasEnd)));
    const { id } = await waitUntilCompleted();
    for (const frames of streams) {
      const created = frames.find(({ type, data }) => type === "message.created" && data?.id === id)?.data;
      const hasBegun = frames.some(({ type, offset }) => type === "message.reset" || offset === 0);
      expect(hasBegun).toBe(true);
      expect(created?.content ?? "").toBe("");
      expect(read(frames, id)).toEqual({ content: "The answer.", reasoning: fullReasoning });
    }
  });
});

describe("an answer taken over by another instance", () => {
  const takeOver = async (app: TestApp, messageId: string) => {
    await app.database`
      update generations set owner = gen_random_uuid(), lease_until = now() - interval '1 s' where message_id = ${messageId}`;
  };

  test("keeps the reasoning that led to its text", async () => {
    const slow = Array.from({ length: 400 }, (_, n) => `w${n} `);
    provider.script(
      "three",
      { thinking: ["First, ", "a plan."], pieces: slow, pieceDelayMs: 20 },
      {
        thinking: ["Where was I?"],
        pieces: ["and the end."],
      },
    );
    await send("Think.");
    const { message_id } = await socket.waitFor((frame) => frame.type === "message.delta" && !frame.part);
    const id = String(message_id);
    // Both are stored.
    await waitUntil(async () => {
      const message = await find(id, second);
      return message.reasoning === "First, a plan." && message.content !== "";
    });
    await takeOver(first, id);
    const completed = await waitUntilCompleted();
    expect(completed.reasoning).toBe("First, a plan.\n\nWhere was I?");
    expect(completed.content).toEndWith("and the end.");
    expect(completed.content).toStartWith("w0 ");
    expect(socket.list("message.reset").at(-1)).toMatchObject({ reasoning: "First, a plan." });
    expect(read(socket.frames, id)).toEqual({ content: completed.content, reasoning: String(completed.reasoning) });
  }, 30_000);

  test("without text starts over", async () => {
    const thinkUntil = Promise.withResolvers<void>().promise;
    provider.script("three", { ...thinkingScript, thinkUntil }, { thinking: ["Again."], pieces: ["Done."] });
    await send("Think.");
    const { message_id } = await socket.waitFor(isReasoningDelta);
    await waitUntil(async () => (await find(String(message_id), second)).reasoning !== null);
    await takeOver(first, String(message_id));
    const completed = await waitUntilCompleted();
    expect(completed).toMatchObject({ content: "Done.", reasoning: "Again." });
    expect(read(socket.frames, completed.id)).toEqual({ content: "Done.", reasoning: "Again." });
  }, 30_000);
});

describe.each([
  ["stream", true],
  ["off", false],
])("with AI_REASONING=%s", (AI_REASONING, isSent) => {
  test("stores no reasoning", async () => {
    const app = await startApp({ config: configure({ AI_REASONING }) });
    try {
      const account = await app.register();
      const { id } = await createConversation(app, account, [], { reply_mode: "always" });
      const reader = await openSocket(app.url, { token: account.access_token });
      await reader.request({ type: "subscribe", conversation_id: id });
      const pieces = Array.from({ length: 60 }, (_, n) => `w${n} `);
      provider.script("three", { ...thinkingScript, pieces, pieceDelayMs: 20, usage: false });
      await send("Think.", {}, reader, id);
      // Waits until a piece is stored; returns its contents.
      await waitUntil(async () => (await app.database`select 1 from generation_pieces where text <> ''`).length > 0);
      expect(await app.database`select 1 from generation_pieces where reasoning <> ''`).toHaveLength(0);
      const path = `/conversations/${id}/messages`;
      const [, streaming] = (await createRest(app, account).get<{ data: Message[] }>(path)).body.data;
      expect(streaming).toMatchObject({ status: "streaming", reasoning: null });
      const late = await openSocket(app.url, { token: account.access_token });
      await late.request({ type: "subscribe", conversation_id: id });
      const completed = await waitUntilCompleted(reader);
      await waitUntilCompleted(late);
      expect(completed).toMatchObject({ status: "complete", reasoning: null });
      expect(completed.usage.reasoning_tokens).toBeGreaterThan(30);
      for (const { frames } of [reader, late]) {
        const { content, reasoning } = read(frames, completed.id);
        expect([content, reasoning]).toEqual([completed.content, isSent ? fullReasoning : ""]);
        if (!isSent) expect(frames.some((frame) => "part" in frame || frame.reasoning !== undefined)).toBe(false);
      }
      expect(await app.database`select 1 from messages where reasoning is not null`).toHaveLength(0);
      await Promise.all([reader.close(), late.close()]);
    } finally {
      await app.stop();
    }
  }, 30_000);
});
