import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import type { AnswerPart } from "../../src/ai/answer-part.ts";
import { REASONING_LENGTH_MAX } from "../../src/ai/attempt/answer.ts";
import { THINKING_SILENCE_MS } from "../../src/ai/timeouts.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { collect, createRecorder, createTestChain } from "./collect.ts";

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
    const { parts, text, reasoning, end } = await collect(createTestChain(mockProvider, [`${provider}/thinks`]));
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
    mockProvider.script("first", { thinking: ["A wrong idea."], pieces: [], fault: "cut", after: 0 });
    mockProvider.script("second", { thinking: ["A better one."], pieces: ["Done."] });
    const chain = createTestChain(mockProvider, [`${provider}/first`, `${provider}/second`], { maxRetries: 0 });
    const { parts, text, reasoning, end } = await collect(chain);
    expect(listParts(parts)).toEqual([
      ["start", null],
      ["reasoning", "A wrong idea."],
      ["reset", ""],
      ["reasoning", "A better one."],
      ["text", "Done."],
    ]);
    expect([text, reasoning]).toEqual(["Done.", "A better one."]);
    // Both used tokens, but only one wrote text.
    expect(end.models).toEqual([`${provider}/second`]);
    expect(parts[2]).not.toHaveProperty("reasoning");
  });

  test("kept text keeps its reasoning", async () => {
    mockProvider.script("first", { thinking: ["Think."], pieces: ["One ", "two"], fault: "cut", after: 2 });
    mockProvider.script("second", { thinking: ["Go on."], pieces: [], fault: "cut", after: 0 });
    mockProvider.script("third", { thinking: ["On."], pieces: [" three."] });
    const models = ["first", "second", "third"].map((name) => `${provider}/${name}`);
    const { text, reasoning, resets, end } = await collect(createTestChain(mockProvider, models, { maxRetries: 0 }));
    expect(text).toBe("One two three.");
    expect(reasoning).toBe("Think.\n\nOn.");
    expect(resets.map((reset) => [reset.text, reset.reasoning])).toEqual([
      ["One two", "Think."],
      ["One two", "Think."],
    ]);
    expect(end.models).toEqual([`${provider}/first`, `${provider}/third`]);
  });

  test("if reasoning isn't shown, nothing is pushed before the first text, but it is still counted", async () => {
    mockProvider.script("first", { thinking: ["A wrong idea."], pieces: [], fault: "cut", after: 0 });
    mockProvider.script("second", { thinking: ["Better. ".repeat(20)], pieces: ["Done."], usage: false });
    const models = [`${provider}/first`, `${provider}/second`];
    const chain = createTestChain(mockProvider, models, { maxRetries: 0, showsReasoning: false });
    const { parts, end } = await collect(chain);
    expect(listParts(parts)).toEqual([
      ["start", null],
      ["text", "Done."],
    ]);
    expect(end.usage?.reasoning_tokens).toBeGreaterThan(10);
    expect(end.usage?.output_tokens).toBeGreaterThan(end.usage?.reasoning_tokens ?? 0);
  });

  test("shown reasoning can be stored: no NUL, no half characters, and limited in length", async () => {
    const start = "\n  \0Plan 👩‍👩‍👧\ud83d";
    const thinking = [start, "\ude00!", ...Array.from({ length: 30 }, () => "thought ".repeat(1_000))];
    mockProvider.script("endless", { thinking, pieces: ["Done."] });
    const { parts, text, reasoning } = await collect(createTestChain(mockProvider, [`${provider}/endless`]));
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
  const { text, reasoning } = await collect(createTestChain(mockProvider, ["compatible/local"]));
  expect(text).toBe("The answer.");
  expect(reasoning.trimEnd()).toBe("Let me see.");
});

test("an empty think block is no reasoning", async () => {
  mockProvider.script("local", { pieces: ["<think>\n\n</think>\n\n", "The answer."] });
  const { parts } = await collect(createTestChain(mockProvider, ["compatible/local"]));
  expect(parts.map(({ type }) => type)).toEqual(["start", "text"]);
});

test("steps of one answer share one reasoning, separated by blank lines", async () => {
  mockProvider.script("model", { thinking: ["More."], pieces: ["Done."] });
  const resume = { text: "Looking.", reasoning: "Where?", attempt: 1, step: "next" } as const;
  const { reasoning, parts } = await collect(createTestChain(mockProvider, ["anthropic/model"]), { resume });
  expect(reasoning).toBe("Where?\n\nMore.");
  expect(parts.map(({ type }) => type)).toEqual(["reasoning", "text"]);
});

test("a step that fails in a tool call only loses its own reasoning", async () => {
  mockProvider.script("first", { thinking: ["Call it."], pieces: ["Let me see. "], fault: "tool_call_cut", after: 1 });
  mockProvider.script("second", { pieces: ["Done."] });
  const chain = createTestChain(mockProvider, ["anthropic/first", "anthropic/second"], { maxRetries: 0 });
  const resume = { text: "Looking. ", reasoning: "Where?", attempt: 1, step: "next" } as const;
  const { text, reasoning } = await collect(chain, { resume });
  expect(text).toBe("Looking. Done.");
  expect(reasoning).toBe("Where?");
});

test("an answer taken over continues its reasoning, if it has text", async () => {
  mockProvider.script("model", { thinking: ["On."], pieces: [" two."] });
  const chain = createTestChain(mockProvider, ["openai/model"]);
  const one = await collect(chain, { resume: { text: "One", reasoning: "Count.", attempt: 1 } });
  expect([one.text, one.reasoning]).toEqual(["One two.", "Count.\n\nOn."]);
  const none = await collect(chain, { resume: { text: "", reasoning: "Count.", attempt: 1 } });
  expect(none.reasoning).toBe("On.");
});

test("the first token is the first of the text", async () => {
  const { observe, events } = createRecorder();
  mockProvider.script("first", { thinking: ["Hm."], pieces: [], fault: "cut", after: 0 });
  const first = await collect(createTestChain(mockProvider, ["openai/first"], { observe, maxRetries: 0 }));
  expect(first.end.type).toBe("error");
  expect(events.filter(([what]) => what === "first_token")).toEqual([]);
  expect(events).toContainEqual(["tokens", "openai/first", "reasoning", true]);
});

test("OpenAI's summaries and Anthropic's blocks are separated", async () => {
  const summary = (output: number, index: number, delta: string) =>
    `data: ${JSON.stringify({ type: "response.reasoning_summary_text.delta", output_index: output, summary_index: index, delta })}\n\n`;
  const completed = `data: ${JSON.stringify({
    type: "response.completed",
    response: { status: "completed", output: [{ type: "message", content: [{ type: "output_text", text: "Done." }] }] },
  })}\n\n`;
  const recording = summary(0, 0, "**A** ") + summary(0, 0, "a.") + summary(0, 1, "**B** b.") + summary(2, 0, "C.");
  mockProvider.script("summaries", { recording: recording + completed });
  const openai = await collect(createTestChain(mockProvider, ["openai/summaries"]));
  expect(openai.reasoning).toBe("**A** a.\n\n**B** b.\n\nC.");

  const event = (type: string, data: object) => `event: ${type}\ndata: ${JSON.stringify({ type, ...data })}\n\n`;
  const thought = (index: number, thinking: string) =>
    event("content_block_delta", { index, delta: { type: "thinking_delta", thinking } });
  const text = event("content_block_delta", { index: 2, delta: { type: "text_delta", text: "Done." } });
  const stop = event("message_delta", { delta: { stop_reason: "end_turn" } }) + event("message_stop", {});
  mockProvider.script("blocks", { recording: thought(0, "A ") + thought(0, "a.") + thought(1, "B.") + text + stop });
  const anthropic = await collect(createTestChain(mockProvider, ["anthropic/blocks"]));
  expect(anthropic.reasoning).toBe("A a.\n\nB.");
});

test("OpenAI is asked for summaries if readers see them, or if silence would count as a failure", async () => {
  mockProvider.script("gpt-5", { pieces: ["Done."] });
  const ask = async (options: Parameters<typeof createTestChain>[2]) => {
    await collect(createTestChain(mockProvider, ["openai/gpt-5"], options));
    const body = mockProvider.requests.at(-1)?.body as { reasoning?: { summary?: string } };
    return body.reasoning?.summary;
  };
  const silent = { firstTokenTimeoutMs: THINKING_SILENCE_MS, idleTimeoutMs: THINKING_SILENCE_MS };
  expect(await ask(silent)).toBe("auto");
  expect(await ask({ ...silent, showsReasoning: false })).toBeUndefined();
  expect(await ask({ showsReasoning: false })).toBe("auto");
});

test("a text of only spaces keeps no reasoning", async () => {
  mockProvider.script("first", { thinking: ["A wrong idea."], pieces: [" ".repeat(100), "x"], fault: "cut", after: 1 });
  mockProvider.script("second", { pieces: ["Done."] });
  const chain = createTestChain(mockProvider, ["openai/first", "anthropic/second"], { maxRetries: 0 });
  const { text, reasoning } = await collect(chain);
  expect([text.trim(), reasoning]).toEqual(["Done.", ""]);
});

test("a text corrected for its format keeps all reasoning", async () => {
  mockProvider.script(
    "model",
    { thinking: ["Which colour?"], pieces: ["It is red."] },
    { thinking: ["As JSON."], pieces: ['{"colour":"red"}'] },
  );
  const options = { format: { type: "json_object" as const } };
  const { text, reasoning, end } = await collect(createTestChain(mockProvider, ["compatible/model"]), { options });
  expect([text, reasoning]).toEqual(['{"colour":"red"}', "Which colour?\n\nAs JSON."]);
  expect(end).toMatchObject({ type: "finish", output: { value: { colour: "red" } } });
});
