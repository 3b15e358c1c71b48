import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import type { AnswerOptions, ChatMessage, Tool } from "../../src/ai/provider.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { collectRun, createTestChain } from "./collect.ts";

let mockProvider: MockProvider;
beforeAll(() => {
  mockProvider = startMockProvider();
});
afterEach(() => mockProvider.reset());
afterAll(() => mockProvider.stop());

const weatherTool: Tool = {
  name: "get_weather",
  description: "The weather in a city.",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};
const createCall = (city: string) => ({ name: "get_weather", arguments: JSON.stringify({ city }) });
const createOptions = (extraOptions: Partial<AnswerOptions> = {}): AnswerOptions => ({
  tools: [weatherTool],
  ...extraOptions,
});

/** Returns the conversation as sent to the provider. */
const findSentMessages = (model: string) => {
  const body = mockProvider.listRequests(model).at(-1)?.body;
  return body?.input ?? body?.messages;
};

describe.each(["openai", "anthropic", "compatible"])("%s", (provider) => {
  test("returns complete calls and the text before them", async () => {
    mockProvider.script("model", { text: "Let me look.", toolCalls: [createCall("Paris"), createCall("Rome")] });
    const chain = createTestChain(mockProvider, [`${provider}/model`]);
    const { text, end } = await collectRun(chain, { options: createOptions() });
    expect(text).toBe("Let me look.");
    if (end.type !== "finish") throw new Error(end.type);
    expect(end.reason).toBe("tool_calls");
    expect(end.toolCalls.map(({ name, arguments: args }) => [name, JSON.parse(args)])).toEqual([
      ["get_weather", { city: "Paris" }],
      ["get_weather", { city: "Rome" }],
    ]);
    expect(new Set(end.toolCalls.map(({ id }) => id)).size).toBe(2);
    expect(JSON.stringify(mockProvider.requests[0]?.body)).toContain('"required":["city"]');
  });

  test("a call without text is a complete answer, even if its arguments are invalid JSON", async () => {
    mockProvider.script("model", { toolCalls: [{ name: "get_weather", arguments: '{"city": Par' }] });
    const { parts, end } = await collectRun(createTestChain(mockProvider, [`${provider}/model`]), {
      options: createOptions(),
    });
    expect(parts.map(({ type }) => type)).toEqual(["start"]);
    expect(end).toMatchObject({ toolCalls: [{ name: "get_weather", arguments: '{"city": Par' }] });
  });

  test("missing arguments become an empty object", async () => {
    mockProvider.script("model", { toolCalls: [{ name: "get_weather", arguments: "" }] });
    const { end } = await collectRun(createTestChain(mockProvider, [`${provider}/model`]), {
      options: createOptions(),
    });
    expect(end).toMatchObject({ toolCalls: [{ arguments: "{}" }] });
  });

  test("calls and results of the conversation are sent in the model's format", async () => {
    const toolCalls = [
      { id: "a.1", name: "get_weather", arguments: '{"city":"Paris"}' },
      { id: "a.2", name: "get_weather", arguments: "no JSON" },
    ];
    const messages: ChatMessage[] = [
      { role: "user", content: "The weather?" },
      { role: "assistant", content: "", toolCalls },
      // The second call has no result, and one result has no call.
      { role: "tool", toolCallId: "a.1", content: "Sunny." },
      { role: "tool", toolCallId: "a.9", content: "Stray." },
    ];
    const { end } = await collectRun(createTestChain(mockProvider, [`${provider}/normal`]), {
      messages,
      options: createOptions(),
    });
    expect(end.type).toBe("finish");
    const text = JSON.stringify(findSentMessages("normal"));
    expect(text).toContain("Sunny.");
    expect(text).toContain("This call was not carried out.");
    expect(text).not.toContain("Stray.");
    expect(text).not.toContain("Please continue.");
  });

  test("the next model continues a failed step without quoting the earlier steps", async () => {
    mockProvider.script("first", { pieces: ["It is ", "sunny", "never sent"], fault: "cut", piecesBeforeFault: 2 });
    mockProvider.script("second", { text: " today." });
    const messages: ChatMessage[] = [
      { role: "user", content: "The weather?" },
      { role: "assistant", content: "One moment. ", toolCalls: [{ id: "c1", ...createCall("Paris") }] },
      { role: "tool", toolCallId: "c1", content: "Sunny." },
    ];
    const chain = createTestChain(mockProvider, ["compatible/first", `${provider}/second`]);
    const resume = { text: "One moment. ", attempt: 1, step: "next" as const };
    const { parts, text } = await collectRun(chain, { messages, options: createOptions(), resume });
    expect(text).toBe("One moment. It is sunny today.");
    expect(parts.map(({ type }) => type)).toEqual(["text", "text", "reset", "text"]);
    const sentMessages = JSON.stringify(findSentMessages("second"));
    expect(sentMessages).toContain("<partial_answer>\\nIt is sunny\\n</partial_answer>");
  });

  test("a restarted step begins with a reset to the text of the earlier steps", async () => {
    mockProvider.script("model", { text: "Sunny." });
    const chain = createTestChain(mockProvider, [`${provider}/model`]);
    const resume = { text: "One moment. ", attempt: 3, step: "restarted" as const };
    const { parts, text } = await collectRun(chain, { resume });
    expect(parts[0]).toEqual({ type: "reset", model: `${provider}/model`, attempt: 4, text: "One moment. " });
    expect(text).toBe("One moment. Sunny.");
    expect(JSON.stringify(findSentMessages("model"))).not.toContain("partial_answer");
  });

  test("the next model restarts a step that ends in a truncated call", async () => {
    mockProvider.script("first", { pieces: ["It ", "is"], fault: "tool_call_cut", piecesBeforeFault: 2 });
    mockProvider.script("second", { toolCalls: [createCall("Rome")] });
    const chain = createTestChain(mockProvider, [`${provider}/first`, `${provider}/second`]);
    const resume = { text: "One moment. ", attempt: 1, step: "next" as const };
    const { text, resets, end } = await collectRun(chain, { options: createOptions(), resume });
    expect(text).toBe("One moment. ");
    expect(resets).toEqual([{ type: "reset", model: `${provider}/second`, attempt: 2, text: "One moment. " }]);
    expect(end).toMatchObject({ toolCalls: [{ name: "get_weather", arguments: '{"city":"Rome"}' }] });
  });

  test("options are sent in the provider's format", async () => {
    const chain = createTestChain(mockProvider, [`${provider}/normal`]);
    await collectRun(chain, {
      options: createOptions({
        temperature: 0.5,
        topP: 0.25,
        stop: ["END"],
        toolChoice: { name: "get_weather" },
        canCallToolsInParallel: false,
      }),
    });
    const body = mockProvider.listRequests("normal").at(-1)?.body;
    expect(body).toMatchObject({ temperature: 0.5, top_p: 0.25 });
    const expected = {
      openai: { tool_choice: { type: "function", name: "get_weather" }, parallel_tool_calls: false },
      anthropic: {
        tool_choice: { type: "tool", name: "get_weather", disable_parallel_tool_use: true },
        stop_sequences: ["END"],
      },
      compatible: {
        tool_choice: { type: "function", function: { name: "get_weather" } },
        parallel_tool_calls: false,
        stop: ["END"],
      },
    }[provider];
    expect(body).toMatchObject(expected ?? {});
  });

  test("no optional parameters are sent by default", async () => {
    await collectRun(createTestChain(mockProvider, [`${provider}/normal`]));
    const names = Object.keys(mockProvider.listRequests("normal")[0]?.body ?? {});
    for (const name of ["tools", "tool_choice", "temperature", "top_p", "stop", "stop_sequences"])
      expect(names).not.toContain(name);
  });
});
