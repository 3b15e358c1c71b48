import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { TOOL_CALLS_PER_STEP_MAX, TOOL_STEPS_MAX } from "../../src/modules/generations/tool-loop.ts";
import { TOOL_RESULT_CHARS_MAX } from "../../src/modules/tools/service.ts";
import type { Message } from "../../src/protocol/message.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { type Frame, openSocket, type TestSocket } from "../support/socket.ts";

let provider: MockProvider;
let parley: TestApp;
let anna: Account;
let ben: Account;
let outsider: Account;
let conversation_id: string;
let socket: TestSocket;

beforeAll(async () => {
  provider = startMockProvider();
  parley = await startApp({
    config: {
      OPENAI_API_KEY: "sk-test",
      OPENAI_BASE_URL: provider.openaiUrl,
      ANTHROPIC_API_KEY: "sk-ant-test",
      ANTHROPIC_BASE_URL: provider.anthropicUrl,
      COMPATIBLE_BASE_URL: provider.openaiUrl,
      AI_MODELS: "openai/one,anthropic/two,compatible/three",
      AI_MAX_RETRIES: "0",
      AI_IDLE_TIMEOUT_MS: "5000",
    },
  });
  [anna, ben, outsider] = await Promise.all([parley.register(), parley.register(), parley.register()]);
});
beforeEach(async () => {
  provider.reset();
  const input = { reply_mode: "always", title: "Tools", tools: true };
  conversation_id = (await createConversation(parley, anna, [ben], input)).id;
  socket = await openSocket(parley.url, { token: anna.access_token });
  await socket.request({ type: "subscribe", conversation_id });
});
afterAll(async () => {
  await parley.stop();
  await provider.stop();
});

const createSearchCall = (query: string) => ({ name: "search_documents", arguments: JSON.stringify({ query }) });
let lastId = 0;
const sendMessage = (content: string, fields: object = {}) => {
  lastId += 1;
  const client_message_id = `c${lastId}`;
  return socket.request({ type: "message.send", conversation_id, content, client_message_id, ...fields });
};
const listMessages = async (): Promise<Message[]> => {
  const path = `/api/v1/conversations/${conversation_id}/messages`;
  const response = await parley.fetch(path, { token: anna.access_token });
  return ((await response.json()) as { data: Message[] }).data;
};
const isCompleted = (frame: Frame) => frame.type === "message.completed";
const formatRequestBody = (index: number) => JSON.stringify(provider.requests.at(index)?.body);

/** Assembles the text or reasoning as a client does, and expects no gaps or repeats. */
function assembleText(frames: Frame[], part?: "reasoning"): string {
  let text = "";
  for (const frame of frames) {
    if (frame.type === "message.reset") text = String(part ? (frame.reasoning ?? "") : frame.text);
    if (frame.type !== "message.delta" || frame.part !== part) continue;
    expect(frame.offset).toBe(text.length);
    text += frame.text;
  }
  return text;
}

describe("a conversation with tools", () => {
  test("offers and runs only its selected tools", async () => {
    const selectTools = (tools: unknown) =>
      parley.fetch(`/api/v1/conversations/${conversation_id}`, {
        token: anna.access_token,
        method: "PATCH",
        json: { tools },
      });
    const formatOfferedTools = () => JSON.stringify(provider.requests.at(-1)?.body.tools ?? []);
    for (const [tools, isOffered] of [
      [["search_documents", "wiki_search"], true],
      [["wiki_search"], false],
      [[], false],
      [false, false],
    ] as const) {
      expect((await selectTools(tools)).status).toBe(200);
      const { seq } = (await sendMessage("Look it up.")).message as Message;
      await socket.waitFor((frame) => isCompleted(frame) && (frame.seq ?? 0) > seq);
      expect(formatOfferedTools().includes("search_documents")).toBe(isOffered);
    }
    // A tool that isn't offered doesn't run, even if the model calls it.
    await selectTools(["wiki_search"]);
    provider.script("one", { text: "", toolCalls: [createSearchCall("backup")] }, { text: "So be it." });
    const { seq } = (await sendMessage("Look it up all the same.")).message as Message;
    await socket.waitFor((frame) => isCompleted(frame) && (frame.seq ?? 0) > seq);
    const results = (await listMessages()).filter(({ role }) => role === "tool");
    expect(results).toMatchObject([{ metadata: { is_error: true } }]);
  });

  test.each(["openai/one", "anthropic/two", "compatible/three"])(
    "lets %s search the documents and answer",
    async (model) => {
      provider.script(
        model.split("/")[1] ?? "",
        {
          thinking: ["Where is it?"],
          text: "Let me look. ",
          toolCalls: [createSearchCall("how to connect a model"), createSearchCall("backup")],
        },
        { thinking: ["There."], text: "It is described in providers.md." },
      );
      await sendMessage("How do I connect a model?", { model });
      const completed = await socket.waitFor(isCompleted);
      expect(completed.data).toMatchObject({
        content: "Let me look. It is described in providers.md.",
        reasoning: "Where is it?\n\nThere.",
        status: "complete",
        finish_reason: "stop",
        model,
        metadata: { models: [model] },
      });
      expect(assembleText(socket.frames)).toBe("Let me look. It is described in providers.md.");
      expect(assembleText(socket.frames, "reasoning")).toBe("Where is it?\n\nThere.");
      expect(socket.frames.some(({ type }) => type === "message.reset")).toBe(false);
      const messages = await listMessages();
      expect(messages.map(({ role }) => role)).toEqual(["user", "assistant", "tool", "tool"]);
      const [, answer, firstResult, secondResult] = messages;
      expect(firstResult).toMatchObject({
        parent_id: answer?.id ?? "",
        author: null,
        status: "complete",
        metadata: {
          name: "search_documents",
          arguments: '{"query":"how to connect a model"}',
          is_error: false,
          step: 1,
          offset: 13,
          reasoning_offset: 12,
        },
      });
      const searchResult = JSON.parse(firstResult?.content ?? "") as { passages: { path: string; text: string }[] };
      expect(searchResult.passages.map(({ path }) => path)).toContain("providers.md");
      expect(firstResult?.metadata.call_id).not.toBe(secondResult?.metadata.call_id);
      // Each result is a separate event with a seq, between the start and the end of the answer.
      const createdFrames = socket.frames.filter(({ type }) => type === "message.created");
      expect(createdFrames.slice(2).map(({ data }) => data)).toEqual([firstResult, secondResult] as never);
      const seqs = socket.frames.filter(({ seq }) => seq !== undefined).map(({ seq }) => seq);
      expect(seqs).toEqual([2, 3, 4, 5, 6]);
      // The second step received the results, and both steps are charged.
      expect(formatRequestBody(1)).toContain("AI_MODELS");
      const usage = completed.data?.usage as { output_tokens: number };
      expect(usage.output_tokens).toBe(3 + 5);
    },
  );

  test("offers no tools by default", async () => {
    const conversation = await createConversation(parley, anna, [], { reply_mode: "always", title: "Plain" });
    await parley.fetch(`/api/v1/conversations/${conversation.id}/messages`, {
      token: anna.access_token,
      json: { content: "Hello" },
    });
    for (let waits = 0; waits < 50 && provider.requests.length === 0; waits += 1) await Bun.sleep(20);
    expect(Object.keys(provider.requests[0]?.body ?? {})).not.toContain("tools");
  });

  test.each([
    ["that is not JSON", { name: "search_documents", arguments: '{"query": "fox' }, "not valid JSON"],
    ["that is not an object", { name: "search_documents", arguments: '["fox"]' }, "must be a JSON object"],
    [
      "without a required argument",
      { name: "search_documents", arguments: "{}" },
      "`query` must be a non-empty string",
    ],
    ["to an unknown tool", { name: "rm_rf", arguments: "{}" }, "This tool is not available"],
  ])("returns an error to the model for a call %s", async (_name, call, expected) => {
    provider.script("one", { toolCalls: [call] }, { text: "Sorry." });
    await sendMessage("Look it up.");
    const completed = await socket.waitFor(isCompleted);
    expect(completed.data).toMatchObject({ content: "Sorry.", status: "complete" });
    const [, , result] = await listMessages();
    expect(result).toMatchObject({ role: "tool", metadata: { is_error: true, arguments: call.arguments } });
    expect(result?.content).toContain(expected);
    expect(formatRequestBody(-1)).toContain(expected);
  });

  test("limits the steps of a model that never stops calling tools", async () => {
    provider.script("one", { toolCalls: [createSearchCall("fox")] });
    await sendMessage("Look it up.");
    const completed = await socket.waitFor(isCompleted);
    expect(completed.data).toMatchObject({ status: "complete", finish_reason: "tool_calls" });
    expect(provider.requests.length).toBe(TOOL_STEPS_MAX);
    expect(provider.requests.at(-1)?.body.tool_choice).toBe("none");
    expect((await listMessages()).filter(({ role }) => role === "tool").length).toBe(TOOL_STEPS_MAX - 1);
  });

  test("limits the number of calls that run in one step", async () => {
    const toolCalls = Array.from({ length: TOOL_CALLS_PER_STEP_MAX + 2 }, () => createSearchCall("fox"));
    provider.script("one", { toolCalls }, { text: "Enough." });
    await sendMessage("Look it up.");
    await socket.waitFor(isCompleted);
    const results = (await listMessages()).filter(({ role }) => role === "tool");
    expect(results.map(({ metadata }) => metadata.is_error)).toEqual(
      toolCalls.map((_, index) => index >= TOOL_CALLS_PER_STEP_MAX),
    );
    expect(results.every(({ content }) => content.length <= TOOL_RESULT_CHARS_MAX)).toBe(true);
  });

  test("continues with the results after a failover between steps", async () => {
    provider.script(
      "one",
      { text: "Let me look. ", toolCalls: [createSearchCall("model")] },
      { fault: "status", status: 500 },
    );
    provider.script("two", { text: "Found it." });
    await sendMessage("Look it up.");
    const completed = await socket.waitFor(isCompleted);
    expect(completed.data).toMatchObject({
      content: "Let me look. Found it.",
      model: "anthropic/two",
      metadata: { models: ["openai/one", "anthropic/two"] },
    });
    expect(JSON.stringify(provider.listRequests("two")[0]?.body)).toContain("tool_result");
  });

  test("keeps the partial answer if it is stopped between steps", async () => {
    provider.script(
      "one",
      { text: "Let me look. ", toolCalls: [createSearchCall("model")] },
      { fault: "no_first_token" },
    );
    await sendMessage("Look it up.");
    await socket.waitFor((frame) => frame.type === "message.created" && frame.data?.role === "tool");
    for (let waits = 0; waits < 50 && provider.requests.length < 2; waits += 1) await Bun.sleep(20);
    const [, answer] = await listMessages();
    await socket.request({ type: "generation.cancel", message_id: answer?.id ?? "" });
    const completed = await socket.waitFor(isCompleted);
    expect(completed.data).toMatchObject({ content: "Let me look. ", status: "cancelled" });
    expect(completed.data?.usage).toMatchObject({ output_tokens: 3 });
  });

  test("includes tool results in the stream of the answer", async () => {
    provider.script("one", { toolCalls: [createSearchCall("model")] }, { text: "Found it." });
    const response = await parley.fetch(`/api/v1/conversations/${conversation_id}/messages`, {
      token: anna.access_token,
      json: { content: "Look it up." },
      headers: { accept: "text/event-stream" },
    });
    const frames = (await response.text())
      .split("\n")
      .filter((line) => line.startsWith("data: "))
      .map((line) => JSON.parse(line.slice(6)) as Frame);
    expect(frames.filter(({ type }) => type !== "message.delta").map(({ type, data }) => [type, data?.role])).toEqual([
      ["message.created", "user"],
      ["message.created", "assistant"],
      ["message.created", "tool"],
      ["message.completed", "assistant"],
    ]);
  });

  test("shows no tool results to an outsider", async () => {
    provider.script("one", { toolCalls: [createSearchCall("model")] }, { text: "Found it." });
    await sendMessage("Look it up.");
    await socket.waitFor(isCompleted);
    const toolMessage = (await listMessages()).find(({ role }) => role === "tool");
    const path = `/api/v1/conversations/${conversation_id}/messages/${toolMessage?.id}`;
    expect((await parley.fetch(path, { token: ben.access_token })).status).toBe(200);
    expect((await parley.fetch(path, { token: outsider.access_token })).status).toBe(404);
  });

  test("does not send the tool calls of earlier answers to the model", async () => {
    provider.script("one", { toolCalls: [createSearchCall("model")] }, { text: "Found it." });
    await sendMessage("First?");
    await socket.waitFor(isCompleted);
    provider.script("one", { text: "Second." });
    await sendMessage("Second?");
    await socket.waitFor((frame) => isCompleted(frame) && frame.data?.content === "Second.");
    const input = provider.requests.at(-1)?.body.input as { role?: string; type?: string }[];
    expect(input.map(({ role, type }) => role ?? type).filter((role) => role !== "system")).toEqual([
      "user",
      "assistant",
      "user",
    ]);
  });
});
