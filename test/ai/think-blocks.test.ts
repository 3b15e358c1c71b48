import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { createTextWriter } from "../../src/ai/chain/writer.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { collectRun, createTestChain } from "./collect.ts";

let mockProvider: MockProvider;
beforeAll(() => {
  mockProvider = startMockProvider();
});
afterEach(() => mockProvider.reset());
afterAll(() => mockProvider.stop());

test.each(["openai", "anthropic", "compatible"])(
  "%s: a leading think block is reasoning, even after a failover",
  async (provider) => {
    mockProvider.script("thinks", {
      pieces: ["<thi", "nk>Which ", "Paris?</thi", "nk>\n", "\nThe ", "capital "],
      fault: "cut",
      piecesBeforeFault: 6,
    });
    mockProvider.script("continues", { pieces: ["<think>", "On.</think> ", "of France."] });
    const { text, reasoning, parts, end } = await collectRun(
      createTestChain(mockProvider, [`${provider}/thinks`, `${provider}/continues`]),
    );
    expect(text).toBe("The capital of France.");
    expect(reasoning).toBe("Which Paris?\n\nOn.");
    const types = parts.map((part) => part.type);
    const isRepeated = (index: number) => types[index] === "reasoning" && types[index - 1] === "reasoning";
    const distinctTypes = types.filter((_, index) => !isRepeated(index));
    expect(distinctTypes).toEqual(["start", "reasoning", "text", "text", "reset", "reasoning", "text"]);
    expect(end.usage?.reasoning_tokens).toBeGreaterThan(0);
    expect(JSON.stringify(mockProvider.listRequests("continues")[0]?.body)).not.toContain("Which");
  },
);

test("a think block before a tool call is reasoning, in every step", async () => {
  const chain = createTestChain(mockProvider, ["compatible/model"]);
  const toolCalls = [{ name: "f", arguments: "{}" }];
  mockProvider.script("model", { pieces: ["<think>Look.</think>", "Let me look."], toolCalls });
  const firstStep = await collectRun(chain);
  expect([firstStep.text, firstStep.end]).toMatchObject(["Let me look.", { type: "finish", reason: "tool_calls" }]);
  mockProvider.script("model", { pieces: ["<think>Hm.</think>\n"], toolCalls });
  const secondStep = await collectRun(chain, { resume: { text: firstStep.text, attempt: 1, step: "next" } });
  expect([secondStep.text, secondStep.end]).toMatchObject(["Let me look.", { reason: "tool_calls" }]);
  expect(secondStep.end.usage?.reasoning_tokens).toBeGreaterThan(0);
});

test("think blocks are removed from titles and other text that background jobs generate", async () => {
  mockProvider.script("writer", { pieces: ["<think>Short, they said.</thi", "nk>", "\n\nA title"] });
  const chain = createTestChain(mockProvider, ["compatible/writer"]);
  const writer = createTextWriter({ chain, model: "compatible/writer", charge: async () => {} });
  const request = {
    system: "Write a title.",
    text: "Hello",
    outputTokensMax: 50,
    payerId: null,
    logContext: { message_id: "m", request_id: null },
  };
  const result = await writer.write({ ...request, signal: new AbortController().signal });
  expect(result.text).toBe("A title");
});
