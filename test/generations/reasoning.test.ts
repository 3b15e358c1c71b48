import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createLinkedBuses } from "../support/linked-buses.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createRestClient } from "../support/rest.ts";
import { type Frame, openSocket, type TestSocket } from "../support/socket.ts";
import { waitUntil } from "../support/wait-until.ts";

type Message = {
  id: string;
  status: string;
  content: string;
  reasoning: string | null;
  model: string;
  metadata: { models?: string[] };
  usage: { output_tokens: number; reasoning_tokens: number };
};

// There are two instances, which store reasoning and share a database and linked buses.
const linkedBuses = createLinkedBuses();
let provider: MockProvider;
let testDatabase: Awaited<ReturnType<typeof createTestDatabase>>;
let firstInstance: TestApp;
let secondInstance: TestApp;
let anna: Account;
let ben: Account;
let outsider: Account;
let conversation_id: string;
let socket: TestSocket;

const createConfig = (options: Record<string, string> = {}) => ({
  OPENAI_API_KEY: "sk-test",
  OPENAI_BASE_URL: provider.openaiUrl,
  ANTHROPIC_API_KEY: "sk-ant-test",
  ANTHROPIC_BASE_URL: provider.anthropicUrl,
  COMPATIBLE_BASE_URL: provider.openaiUrl,
  AI_MODELS: "compatible/three,openai/one,anthropic/two,compatible/cut,compatible/fails",
  AI_MAX_RETRIES: "0",
  ...options,
});

beforeAll(async () => {
  provider = startMockProvider();
  testDatabase = await createTestDatabase(10);
  firstInstance = await startApp({ database: testDatabase, config: createConfig(), bus: linkedBuses.buses[0] });
  secondInstance = await startApp({ database: testDatabase, config: createConfig(), bus: linkedBuses.buses[1] });
  [anna, ben, outsider] = await Promise.all([
    firstInstance.register(),
    firstInstance.register(),
    firstInstance.register(),
  ]);
});
beforeEach(async () => {
  provider.reset();
  conversation_id = (await createConversation(firstInstance, anna, [ben], { reply_mode: "always" })).id;
  socket = await openSocket(firstInstance.url, { token: anna.access_token });
  await socket.request({ type: "subscribe", conversation_id });
});
afterAll(async () => {
  await Promise.all([firstInstance.stop(), secondInstance.stop()]);
  await testDatabase.database.end({ timeout: 1 });
  await provider.stop();
});

const thinkingScript = {
  thinking: Array.from({ length: 30 }, (_, n) => `🤔 ${n} `),
  pieces: ["The ", "answer."],
  pieceDelayMs: 8,
};
const fullReasoning = thinkingScript.thinking.join("");

/** Makes the model think until the returned function is called, so that readers can join before the text starts. */
function scriptThinkingModel(options: object = {}): () => void {
  const { promise, resolve } = Promise.withResolvers<void>();
  provider.script("three", { ...thinkingScript, ...options, thinkUntil: promise });
  return resolve;
}

const sendMessage = (content: string, options: object = {}, from = socket, id = conversation_id) =>
  from.request({ type: "message.send", conversation_id: id, content, client_message_id: content, ...options });
const isCompleted = (frame: Frame) => frame.type === "message.completed";
const isReasoningDelta = (frame: Frame) => frame.type === "message.delta" && frame.part === "reasoning";
const waitUntilCompleted = async (reader = socket): Promise<Message> =>
  (await reader.waitFor(isCompleted, 20_000)).data as unknown as Message;

const findMessage = async (id: string, app = firstInstance, account = anna): Promise<Message> =>
  (await createRestClient(app, account).get<Message>(`/conversations/${conversation_id}/messages/${id}`)).body;

/** Assembles an answer from frames, and expects each delta to start where the previous one ended. */
function assembleAnswer(frames: Frame[], messageId: string): { content: string; reasoning: string } {
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

describe("a model's reasoning", () => {
  test.each(["openai/one", "anthropic/two", "compatible/three"])(
    "is streamed, stored and counted if the model is %s",
    async (model) => {
      provider.script(model.split("/")[1] ?? "", { ...thinkingScript, reportUsage: false });
      await sendMessage("Think.", { model });
      const answer = await waitUntilCompleted();
      expect(answer).toMatchObject({ status: "complete", content: "The answer.", reasoning: fullReasoning });
      expect(assembleAnswer(socket.frames, answer.id)).toEqual({ content: "The answer.", reasoning: fullReasoning });
      // All reasoning is sent before the text.
      const deltaParts = socket.frames.filter(({ type }) => type === "message.delta").map(({ part = "text" }) => part);
      expect(deltaParts.lastIndexOf("reasoning")).toBeLessThan(deltaParts.indexOf("text"));
      const { output_tokens, reasoning_tokens } = answer.usage;
      expect(reasoning_tokens).toBeGreaterThan(30);
      expect(output_tokens).toBeGreaterThan(reasoning_tokens);
      expect(output_tokens).toBeLessThan(reasoning_tokens + 20);
      expect(await findMessage(answer.id)).toEqual(answer);
      const metrics = await firstInstance.metrics.registry.getSingleMetricAsString("parley_ai_tokens_total");
      expect(metrics).toContain(`{model="${model}",kind="reasoning"} ${reasoning_tokens}`);
      expect(metrics).toContain(`{model="${model}",kind="output"} ${output_tokens}`);
    },
  );

  test("is visible only to members", async () => {
    const startWriting = scriptThinkingModel();
    const outsiderSocket = await openSocket(firstInstance.url, { token: outsider.access_token });
    expect(await outsiderSocket.request({ type: "subscribe", conversation_id })).toMatchObject({ code: "not_found" });
    await sendMessage("Think.");
    const { message_id } = await socket.waitFor(isReasoningDelta);
    const path = `/api/v1/conversations/${conversation_id}/messages/${message_id}`;
    expect((await firstInstance.fetch(path, { token: outsider.access_token })).status).toBe(404);
    expect((await findMessage(String(message_id), firstInstance, ben)).reasoning).not.toBeNull();
    startWriting();
    await waitUntilCompleted();
    expect(outsiderSocket.frames.map(({ type }) => type)).toEqual(["ready", "error"]);
    await outsiderSocket.close();
  });

  test("isn't searchable, and isn't sent to models", async () => {
    provider.script("three", { thinking: ["Quokkaesque musings."], pieces: ["Wombatlike answer."] });
    await sendMessage("Think.");
    await waitUntilCompleted();
    const restClient = createRestClient(firstInstance, anna);
    const countSearchResults = async (word: string) =>
      (await restClient.get<{ data: unknown[] }>(`/search?q=${word}`)).body.data.length;
    await waitUntil(async () => (await countSearchResults("wombatlike")) === 1);
    expect(await countSearchResults("quokkaesque")).toBe(0);
    await sendMessage("And now?");
    await waitUntil(async () => provider.listRequests("three").length === 2);
    const request = JSON.stringify(provider.listRequests("three")[1]?.body);
    expect(request).toContain("Wombatlike");
    expect(request).not.toContain("Quokkaesque");
  });

  test("is discarded if the model fails before writing text", async () => {
    provider.script("fails", { ...thinkingScript, pieces: [], fault: "cut", piecesBeforeFault: 0 });
    provider.script("three", { thinking: ["Better."], pieces: ["Done."] });
    await sendMessage("Think.", { model: "compatible/fails" });
    const answer = await waitUntilCompleted();
    expect(answer).toMatchObject({ content: "Done.", reasoning: "Better.", model: "compatible/three" });
    expect(answer.metadata.models).toEqual(["compatible/three"]);
    const [reset] = socket.list("message.reset");
    expect(reset).toMatchObject({ attempt: 2, text: "" });
    expect(reset).not.toHaveProperty("reasoning");
    expect(assembleAnswer(socket.frames, answer.id)).toEqual({ content: "Done.", reasoning: "Better." });
  });

  test("is kept with the partial text if another model continues the answer", async () => {
    provider.script("cut", {
      thinking: ["Count."],
      pieces: ["One ", "two "],
      pieceDelayMs: 30,
      fault: "cut",
      piecesBeforeFault: 2,
    });
    provider.script("three", { thinking: ["Continue."], pieces: ["three."] });
    await sendMessage("Think.", { model: "compatible/cut" });
    const answer = await waitUntilCompleted();
    expect(answer).toMatchObject({ content: "One two three.", reasoning: "Count.\n\nContinue." });
    expect(socket.list("message.reset")).toMatchObject([{ text: "One two ", reasoning: "Count." }]);
    expect(assembleAnswer(socket.frames, answer.id)).toEqual({
      content: "One two three.",
      reasoning: "Count.\n\nContinue.",
    });
  });

  test("is kept if the answer is cancelled", async () => {
    scriptThinkingModel();
    await sendMessage("Think.");
    const { message_id } = await socket.waitFor(isReasoningDelta);
    await socket.request({ type: "generation.cancel", conversation_id, message_id });
    const answer = await waitUntilCompleted();
    expect(answer).toMatchObject({ status: "cancelled", content: "" });
    expect(fullReasoning).toStartWith(String(answer.reasoning));
    expect(assembleAnswer(socket.frames, answer.id).reasoning).toBe(String(answer.reasoning));
  });

  test("is deleted with the message", async () => {
    provider.script("three", { thinking: ["A secret."], pieces: ["Done."] });
    await sendMessage("Think.");
    const { id } = await waitUntilCompleted();
    await socket.request({ type: "message.delete", conversation_id, message_id: id });
    expect(await findMessage(id)).toMatchObject({ content: "", reasoning: null });
    const path = `/api/v1/conversations/${conversation_id}/export?format=markdown`;
    expect(await (await firstInstance.fetch(path, { token: anna.access_token })).text()).not.toContain("secret");
  });

  test("is exported to Markdown as an escaped <details> block", async () => {
    provider.script("three", { thinking: ["Is it </details>?\n"], pieces: ["Done."] });
    await sendMessage("Think.");
    await waitUntilCompleted();
    const path = `/api/v1/conversations/${conversation_id}/export?format=markdown`;
    const text = await (await firstInstance.fetch(path, { token: anna.access_token })).text();
    expect(text).toEndWith(
      "\n<details>\n<summary>Reasoning</summary>\n\nIs it &lt;/details>?\n\n</details>\n\nDone.\n",
    );
  });
});

describe("readers who join while a model thinks", () => {
  test("receive the partial reasoning first and then its deltas, on both instances", async () => {
    const startWriting = scriptThinkingModel();
    const earlyReader = await openSocket(secondInstance.url, { token: ben.access_token });
    await earlyReader.request({ type: "subscribe", conversation_id });
    await sendMessage("Think.");
    await socket.waitFor((frame) => isReasoningDelta(frame) && String(frame.text).includes("10"));
    const lateReaders = await Promise.all(
      [firstInstance, secondInstance].map(({ url }) => openSocket(url, { token: ben.access_token })),
    );
    await Promise.all(lateReaders.map((reader) => reader.request({ type: "subscribe", conversation_id })));
    startWriting();
    const readers = [socket, earlyReader, ...lateReaders];
    const [{ id }] = (await Promise.all(readers.map(waitUntilCompleted))) as [Message];
    for (const reader of readers)
      expect(assembleAnswer(reader.frames, id)).toEqual({ content: "The answer.", reasoning: fullReasoning });
    // The late readers joined in the middle of the reasoning.
    for (const reader of lateReaders) {
      const firstFrame = reader.frames.find(({ message_id }) => message_id === id);
      expect(firstFrame).toMatchObject({ type: "message.reset", text: "" });
      expect(String(firstFrame?.reasoning).length).toBeWithin(1, fullReasoning.length);
    }
    await Promise.all([earlyReader, ...lateReaders].map((reader) => reader.close()));
  });

  test("see the partial reasoning in the message, on both instances", async () => {
    const startWriting = scriptThinkingModel();
    await sendMessage("Think.");
    const { message_id } = await socket.waitFor(isReasoningDelta);
    const message = await findMessage(String(message_id), firstInstance);
    expect(message).toMatchObject({ status: "streaming", content: "" });
    expect(fullReasoning).toStartWith(String(message.reasoning));
    // The second instance sees the reasoning after the next piece is stored.
    await waitUntil(async () => (await findMessage(String(message_id), secondInstance)).reasoning !== null);
    expect(fullReasoning).toStartWith(String((await findMessage(String(message_id), secondInstance)).reasoning));
    startWriting();
    await waitUntilCompleted();
  });

  test("receive the reasoning as server-sent events, both in the feed and in responses to new and resent messages", async () => {
    const startWriting = scriptThinkingModel();
    const openEventStream = (app: TestApp, path: string, options: object = {}) =>
      app.fetch(`/api/v1/conversations/${conversation_id}${path}`, {
        token: anna.access_token,
        headers: { accept: "text/event-stream" },
        ...options,
      });
    const json = { content: "Think.", client_message_id: "sse" };
    const firstResponse = await openEventStream(firstInstance, "/messages", { json });
    await socket.waitFor(isReasoningDelta);
    const resentResponses = [
      await openEventStream(firstInstance, "/messages", { json }),
      await openEventStream(secondInstance, "/messages", { json }),
    ];
    const feed = await openEventStream(secondInstance, "/events");
    startWriting();
    const readFrames = async (response: Response, isComplete: (text: string) => boolean): Promise<Frame[]> => {
      expect(response.status).toBeLessThan(300);
      let text = "";
      const decoder = new TextDecoder();
      for await (const bytes of response.body as AsyncIterable<Uint8Array>) {
        text += decoder.decode(bytes, { stream: true });
        if (isComplete(text)) break;
      }
      return [...text.matchAll(/^data: (.*)$/gm)].map(([, data]) => JSON.parse(String(data)) as Frame);
    };
    const isFinished = (text: string) => /^data: .*"message\.completed".*\n\n/m.test(text);
    const streams = await Promise.all(
      [firstResponse, ...resentResponses, feed].map((response) => readFrames(response, isFinished)),
    );
    const { id } = await waitUntilCompleted();
    for (const frames of streams) {
      const createdMessage = frames.find(({ type, data }) => type === "message.created" && data?.id === id)?.data;
      const hasBeginning = frames.some(({ type, offset }) => type === "message.reset" || offset === 0);
      expect(hasBeginning).toBe(true);
      expect(createdMessage?.content ?? "").toBe("");
      expect(assembleAnswer(frames, id)).toEqual({ content: "The answer.", reasoning: fullReasoning });
    }
  });
});

describe("an answer that another instance takes over", () => {
  const expireLease = async (app: TestApp, messageId: string) => {
    await app.database`
      update generations set owner = gen_random_uuid(), lease_until = now() - interval '1 s' where message_id = ${messageId}`;
  };

  test("keeps the reasoning that preceded its text", async () => {
    const slowPieces = Array.from({ length: 400 }, (_, n) => `w${n} `);
    provider.script(
      "three",
      { thinking: ["First, ", "a plan."], pieces: slowPieces, pieceDelayMs: 20 },
      {
        thinking: ["Where was I?"],
        pieces: ["and the end."],
      },
    );
    await sendMessage("Think.");
    const { message_id } = await socket.waitFor((frame) => frame.type === "message.delta" && !frame.part);
    const id = String(message_id);
    // Waits until the reasoning and some text are stored.
    await waitUntil(async () => {
      const message = await findMessage(id, secondInstance);
      return message.reasoning === "First, a plan." && message.content !== "";
    });
    await expireLease(firstInstance, id);
    const answer = await waitUntilCompleted();
    expect(answer.reasoning).toBe("First, a plan.\n\nWhere was I?");
    expect(answer.content).toEndWith("and the end.");
    expect(answer.content).toStartWith("w0 ");
    expect(socket.list("message.reset").at(-1)).toMatchObject({ reasoning: "First, a plan." });
    expect(assembleAnswer(socket.frames, id)).toEqual({
      content: answer.content,
      reasoning: String(answer.reasoning),
    });
  }, 30_000);

  test("starts over if it has no text yet", async () => {
    const thinkUntil = Promise.withResolvers<void>().promise;
    provider.script("three", { ...thinkingScript, thinkUntil }, { thinking: ["Again."], pieces: ["Done."] });
    await sendMessage("Think.");
    const { message_id } = await socket.waitFor(isReasoningDelta);
    await waitUntil(async () => (await findMessage(String(message_id), secondInstance)).reasoning !== null);
    await expireLease(firstInstance, String(message_id));
    const answer = await waitUntilCompleted();
    expect(answer).toMatchObject({ content: "Done.", reasoning: "Again." });
    expect(assembleAnswer(socket.frames, answer.id)).toEqual({ content: "Done.", reasoning: "Again." });
  }, 30_000);
});

describe.each([
  ["stream", true],
  ["off", false],
])("with AI_REASONING=%s", (AI_REASONING, isSent) => {
  test("no reasoning is stored", async () => {
    const app = await startApp({ config: createConfig({ AI_REASONING }) });
    try {
      const account = await app.register();
      const { id } = await createConversation(app, account, [], { reply_mode: "always" });
      const reader = await openSocket(app.url, { token: account.access_token });
      await reader.request({ type: "subscribe", conversation_id: id });
      const pieces = Array.from({ length: 60 }, (_, n) => `w${n} `);
      provider.script("three", { ...thinkingScript, pieces, pieceDelayMs: 20, reportUsage: false });
      await sendMessage("Think.", {}, reader, id);
      // Waits until a piece is stored.
      await waitUntil(async () => (await app.database`select 1 from generation_pieces where text <> ''`).length > 0);
      expect(await app.database`select 1 from generation_pieces where reasoning <> ''`).toHaveLength(0);
      const path = `/conversations/${id}/messages`;
      const [, streamingAnswer] = (await createRestClient(app, account).get<{ data: Message[] }>(path)).body.data;
      expect(streamingAnswer).toMatchObject({ status: "streaming", reasoning: null });
      const lateReader = await openSocket(app.url, { token: account.access_token });
      await lateReader.request({ type: "subscribe", conversation_id: id });
      const answer = await waitUntilCompleted(reader);
      await waitUntilCompleted(lateReader);
      expect(answer).toMatchObject({ status: "complete", reasoning: null });
      expect(answer.usage.reasoning_tokens).toBeGreaterThan(30);
      for (const { frames } of [reader, lateReader]) {
        const { content, reasoning } = assembleAnswer(frames, answer.id);
        expect([content, reasoning]).toEqual([answer.content, isSent ? fullReasoning : ""]);
        if (!isSent) expect(frames.some((frame) => "part" in frame || frame.reasoning !== undefined)).toBe(false);
      }
      expect(await app.database`select 1 from messages where reasoning is not null`).toHaveLength(0);
      await Promise.all([reader.close(), lateReader.close()]);
    } finally {
      await app.stop();
    }
  }, 30_000);
});
