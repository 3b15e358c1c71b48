import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import type { AnswerPart } from "../../src/ai/answer-part.ts";
import { REASONING_LENGTH_MAX } from "../../src/ai/attempt/answer.ts";
import { THINKING_TIMEOUT_MS } from "../../src/ai/timeouts.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { collectRun, createRecordingObserver, createTestChain } from "./collect.ts";

let mockProvider: MockProvider;
beforeAll(() => {
  mockProvider = startMockProvider();
});
afterEach(() => mockProvider.reset());
afterAll(() => mockProvider.stop());

const listParts = (parts: AnswerPart[]) => parts.map((part) => [part.type, "text" in part ? part.text : null]);

describe.each(["openai", "anthropic", "compatible"])("%s", (provider) => {
  test("reasoning arrives as separate parts, before the text", async () => {
    mockProvider.script("thinks", { thinking: ["First, ", "a plan."], pieces: ["The ", "answer."], pieceDelayMs: 20 });
    const { parts, text, reasoning, end } = await collectRun(createTestChain(mockProvider, [`${provider}/thinks`]));
    expect(listParts(parts)).toEqual([
      ["start", null],
      ["reasoning", "First, "],
      ["reasoning", "a plan."],
      ["text", "The "],
      ["text", "answer."],
    ]);
    expect([text, reasoning]).toEqual(["The answer.", "First, a plan."]);
    expect(end).toMatchObject({ type: "finish", models: [`${provider}/thinks`] });
    expect(end.usage?.reasoning_tokens).toBeGreaterThan(0);
  });

  test("the reasoning of a model that fails before it writes text is dropped", async () => {
    mockProvider.script("first", { thinking: ["A wrong idea."], pieces: [], fault: "cut", piecesBeforeFault: 0 });
    mockProvider.script("second", { thinking: ["A better one."], pieces: ["Done."] });
    const chain = createTestChain(mockProvider, [`${provider}/first`, `${provider}/second`], { maxRetries: 0 });
    const { parts, text, reasoning, end } = await collectRun(chain);
    expect(listParts(parts)).toEqual([
      ["start", null],
      ["reasoning", "A wrong idea."],
      ["reset", ""],
      ["reasoning", "A better one."],
      ["text", "Done."],
    ]);
    expect([text, reasoning]).toEqual(["Done.", "A better one."]);
    // Both models used tokens, but only the second one wrote text.
    expect(end.models).toEqual([`${provider}/second`]);
    expect(parts[2]).not.toHaveProperty("reasoning");
  });

  test("if text is kept after a failover, the reasoning before it is kept too", async () => {
    mockProvider.script("first", { thinking: ["Think."], pieces: ["One ", "two"], fault: "cut", piecesBeforeFault: 2 });
    mockProvider.script("second", { thinking: ["Go on."], pieces: [], fault: "cut", piecesBeforeFault: 0 });
    mockProvider.script("third", { thinking: ["On."], pieces: [" three."] });
    const models = ["first", "second", "third"].map((name) => `${provider}/${name}`);
    const { text, reasoning, resets, end } = await collectRun(createTestChain(mockProvider, models, { maxRetries: 0 }));
    expect(text).toBe("One two three.");
    expect(reasoning).toBe("Think.\n\nOn.");
    expect(resets.map((reset) => [reset.text, reset.reasoning])).toEqual([
      ["One two", "Think."],
      ["One two", "Think."],
    ]);
    expect(end.models).toEqual([`${provider}/first`, `${provider}/third`]);
  });

  test("hidden reasoning isn't pushed to the reader, but its tokens are counted", async () => {
    mockProvider.script("first", { thinking: ["A wrong idea."], pieces: [], fault: "cut", piecesBeforeFault: 0 });
    mockProvider.script("second", { thinking: ["Better. ".repeat(20)], pieces: ["Done."], reportUsage: false });
    const models = [`${provider}/first`, `${provider}/second`];
    const chain = createTestChain(mockProvider, models, { maxRetries: 0, shouldShowReasoning: false });
    const { parts, end } = await collectRun(chain);
    expect(listParts(parts)).toEqual([
      ["start", null],
      ["text", "Done."],
    ]);
    expect(end.usage?.reasoning_tokens).toBeGreaterThan(10);
    expect(end.usage?.output_tokens).toBeGreaterThan(end.usage?.reasoning_tokens ?? 0);
  });

  test("reasoning is limited in length, and contains no NUL and no split characters", async () => {
    const start = "\n  \0Plan 👩‍👩‍👧\ud83d";
    const thinking = [start, "\ude00!", ...Array.from({ length: 30 }, () => "thought ".repeat(1_000))];
    mockProvider.script("endless", { thinking, pieces: ["Done."] });
    const { parts, text, reasoning } = await collectRun(createTestChain(mockProvider, [`${provider}/endless`]));
    expect(text).toBe("Done.");
    expect(reasoning).toHaveLength(REASONING_LENGTH_MAX);
    expect(reasoning.isWellFormed()).toBe(true);
    expect(reasoning).not.toContain("\0");
    expect(reasoning).toStartWith("Plan 👩‍👩‍👧");
    for (const part of parts) if (part.type === "reasoning") expect(part.text.length).toBeLessThanOrEqual(8_192);
  });
});

test("a think block before the text is reasoning", async () => {
  mockProvider.script("local", { pieces: ["<thi", "nk>\nLet me ", "see.\n</think>", "\n\nThe answer."] });
  const { text, reasoning } = await collectRun(createTestChain(mockProvider, ["compatible/local"]));
  expect(text).toBe("The answer.");
  expect(reasoning.trimEnd()).toBe("Let me see.");
});

test("an empty think block isn't reasoning", async () => {
  mockProvider.script("local", { pieces: ["<think>\n\n</think>\n\n", "The answer."] });
  const { parts } = await collectRun(createTestChain(mockProvider, ["compatible/local"]));
  expect(parts.map(({ type }) => type)).toEqual(["start", "text"]);
});

test("the reasoning of an answer's steps is joined with blank lines", async () => {
  mockProvider.script("model", { thinking: ["More."], pieces: ["Done."] });
  const resume = { text: "Looking.", reasoning: "Where?", attempt: 1, step: "next" } as const;
  const { reasoning, parts } = await collectRun(createTestChain(mockProvider, ["anthropic/model"]), { resume });
  expect(reasoning).toBe("Where?\n\nMore.");
  expect(parts.map(({ type }) => type)).toEqual(["reasoning", "text"]);
});

test("a step that fails in a tool call loses only its own reasoning", async () => {
  mockProvider.script("first", {
    thinking: ["Call it."],
    pieces: ["Let me see. "],
    fault: "tool_call_cut",
    piecesBeforeFault: 1,
  });
  mockProvider.script("second", { pieces: ["Done."] });
  const chain = createTestChain(mockProvider, ["anthropic/first", "anthropic/second"], { maxRetries: 0 });
  const resume = { text: "Looking. ", reasoning: "Where?", attempt: 1, step: "next" } as const;
  const { text, reasoning } = await collectRun(chain, { resume });
  expect(text).toBe("Looking. Done.");
  expect(reasoning).toBe("Where?");
});

test("a resumed answer keeps its reasoning only if it has text", async () => {
  mockProvider.script("model", { thinking: ["On."], pieces: [" two."] });
  const chain = createTestChain(mockProvider, ["openai/model"]);
  const withText = await collectRun(chain, { resume: { text: "One", reasoning: "Count.", attempt: 1 } });
  expect([withText.text, withText.reasoning]).toEqual(["One two.", "Count.\n\nOn."]);
  const withoutText = await collectRun(chain, { resume: { text: "", reasoning: "Count.", attempt: 1 } });
  expect(withoutText.reasoning).toBe("On.");
});

test("reasoning doesn't count as the first token", async () => {
  const { observer, events } = createRecordingObserver();
  mockProvider.script("first", { thinking: ["Hm."], pieces: [], fault: "cut", piecesBeforeFault: 0 });
  const failedRun = await collectRun(createTestChain(mockProvider, ["openai/first"], { observer, maxRetries: 0 }));
  expect(failedRun.end.type).toBe("error");
  expect(events.filter(([name]) => name === "first_token")).toEqual([]);
  expect(events).toContainEqual(["tokens", "openai/first", "reasoning", true]);
});

test("OpenAI's reasoning summaries and Anthropic's thinking blocks are separated by blank lines", async () => {
  const createSummaryEvent = (output: number, index: number, delta: string) =>
    `data: ${JSON.stringify({ type: "response.reasoning_summary_text.delta", output_index: output, summary_index: index, delta })}\n\n`;
  const completedEvent = `data: ${JSON.stringify({
    type: "response.completed",
    response: { status: "completed", output: [{ type: "message", content: [{ type: "output_text", text: "Done." }] }] },
  })}\n\n`;
  const recording =
    createSummaryEvent(0, 0, "**A** ") +
    createSummaryEvent(0, 0, "a.") +
    createSummaryEvent(0, 1, "**B** b.") +
    createSummaryEvent(2, 0, "C.");
  mockProvider.script("summaries", { recording: recording + completedEvent });
  const openaiRun = await collectRun(createTestChain(mockProvider, ["openai/summaries"]));
  expect(openaiRun.reasoning).toBe("**A** a.\n\n**B** b.\n\nC.");

  const formatTypedEvent = (type: string, data: object) =>
    `event: ${type}\ndata: ${JSON.stringify({ type, ...data })}\n\n`;
  const createThinkingEvent = (index: number, thinking: string) =>
    formatTypedEvent("content_block_delta", { index, delta: { type: "thinking_delta", thinking } });
  const text = formatTypedEvent("content_block_delta", { index: 2, delta: { type: "text_delta", text: "Done." } });
  const stop =
    formatTypedEvent("message_delta", { delta: { stop_reason: "end_turn" } }) + formatTypedEvent("message_stop", {});
  mockProvider.script("blocks", {
    recording: createThinkingEvent(0, "A ") + createThinkingEvent(0, "a.") + createThinkingEvent(1, "B.") + text + stop,
  });
  const anthropicRun = await collectRun(createTestChain(mockProvider, ["anthropic/blocks"]));
  expect(anthropicRun.reasoning).toBe("A a.\n\nB.");
});

test("OpenAI's reasoning summaries are requested if readers see them or if they prevent a timeout", async () => {
  mockProvider.script("gpt-5", { pieces: ["Done."] });
  const fetchSummaryMode = async (options: Parameters<typeof createTestChain>[2]) => {
    await collectRun(createTestChain(mockProvider, ["openai/gpt-5"], options));
    const body = mockProvider.requests.at(-1)?.body as { reasoning?: { summary?: string } };
    return body.reasoning?.summary;
  };
  const longTimeouts = { firstTokenTimeoutMs: THINKING_TIMEOUT_MS, idleTimeoutMs: THINKING_TIMEOUT_MS };
  expect(await fetchSummaryMode(longTimeouts)).toBe("auto");
  expect(await fetchSummaryMode({ ...longTimeouts, shouldShowReasoning: false })).toBeUndefined();
  expect(await fetchSummaryMode({ shouldShowReasoning: false })).toBe("auto");
});

test("reasoning followed only by spaces is dropped at a failover", async () => {
  mockProvider.script("first", {
    thinking: ["A wrong idea."],
    pieces: [" ".repeat(100), "x"],
    fault: "cut",
    piecesBeforeFault: 1,
  });
  mockProvider.script("second", { pieces: ["Done."] });
  const chain = createTestChain(mockProvider, ["openai/first", "anthropic/second"], { maxRetries: 0 });
  const { text, reasoning } = await collectRun(chain);
  expect([text.trim(), reasoning]).toEqual(["Done.", ""]);
});

test("an answer with a corrected format keeps all its reasoning", async () => {
  mockProvider.script(
    "model",
    { thinking: ["Which colour?"], pieces: ["It is red."] },
    { thinking: ["As JSON."], pieces: ['{"colour":"red"}'] },
  );
  const options = { format: { type: "json_object" as const } };
  const { text, reasoning, end } = await collectRun(createTestChain(mockProvider, ["compatible/model"]), { options });
  expect([text, reasoning]).toEqual(['{"colour":"red"}', "Which colour?\n\nAs JSON."]);
  expect(end).toMatchObject({ type: "finish", output: { value: { colour: "red" } } });
});
