import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { formatSse } from "../support/mock-provider/wire-format.ts";
import { collectRun, createRecordingObserver, createTestChain } from "./collect.ts";

let mockProvider: MockProvider;
beforeAll(() => {
  mockProvider = startMockProvider();
});
afterEach(() => mockProvider.reset());
afterAll(() => mockProvider.stop());

const fullAnswer = "Parley's provider answers in several pieces.";
const createChunk = (delta: unknown, finish_reason: string | null = null, usage: unknown = null) =>
  formatSse(null, { choices: [{ index: 0, delta, finish_reason }], usage });
const createRecording = (...events: string[]) => ({ recording: [...events, formatSse(null, "[DONE]")].join("") });

describe.each(["openai", "anthropic", "compatible"])("%s", (provider) => {
  test.each([
    ["no text", []],
    ["only spaces", [" \n", " "]],
    ["only a think block", ["<think>Hm. ", "Paris?</think>", "\n\n"]],
    ["an unclosed think block", ["<think>Hm. ", "Paris?"]],
  ])("an answer with %s is retried, then the next model is tried", async (_name, pieces) => {
    mockProvider.script("blank", { pieces });
    const spareModel = provider === "openai" ? "anthropic/normal" : "openai/normal";
    const { observer, events } = createRecordingObserver();
    const chain = createTestChain(mockProvider, [`${provider}/blank`, spareModel], { observer });
    const { text, reasoning, parts, end } = await collectRun(chain);
    expect(mockProvider.listRequests("blank").length).toBe(2);
    expect([text, reasoning]).toEqual([fullAnswer, ""]);
    // A reader that has received reasoning needs a reset.
    const startParts = parts.filter((part) => part.type === "start" || part.type === "reset");
    expect(startParts.at(-1)?.model).toBe(spareModel);
    expect(startParts.length).toBe(parts.some(({ type }) => type === "reasoning") ? 3 : 1);
    expect(end).toMatchObject({ type: "finish", model: spareModel, models: [spareModel] });
    const failedAttempt = ["attempt", `${provider}/blank`, "failed", "provider_unavailable"];
    expect(events.filter(([name]) => name === "attempt").slice(0, 2)).toEqual([failedAttempt, failedAttempt]);
  });

  test("an answer that reaches the token limit without text isn't retried and doesn't count against the model", async () => {
    mockProvider.script("limited", { pieces: [], finishReason: "length" });
    const chain = createTestChain(mockProvider, [`${provider}/limited`]);
    for (let run = 0; run < 20; run += 1)
      expect((await collectRun(chain)).end).toMatchObject({ type: "error", code: "provider_unavailable" });
    expect(mockProvider.listRequests("limited").length).toBe(20);
    expect(chain.listModels()[0]?.state).toBe("available");
  });

  test("an answer blocked by a content filter isn't retried", async () => {
    mockProvider.script("filtered", { pieces: [], finishReason: "content_filter" });
    const { text, end } = await collectRun(createTestChain(mockProvider, [`${provider}/filtered`]));
    expect([text, end]).toMatchObject(["", { type: "finish", reason: "content_filter" }]);
  });
});

test("a later step of an answer can be empty if an earlier step returned text", async () => {
  mockProvider.script("model", { pieces: [] });
  const chain = createTestChain(mockProvider, ["compatible/model"]);
  const { text, end } = await collectRun(chain, { resume: { text: "Let me look.", attempt: 1, step: "next" } });
  expect([text, end.type]).toEqual(["Let me look.", "finish"]);
});

test("a reset removes whitespace that a failed attempt wrote", async () => {
  mockProvider.script("space", { pieces: [" ".repeat(100), "\n"] });
  const { text, resets } = await collectRun(createTestChain(mockProvider, ["compatible/space", "compatible/normal"]));
  expect(text).toBe(fullAnswer);
  expect(resets.at(-1)).toMatchObject({ text: "" });
  expect(mockProvider.listRequests("space").length).toBe(2);
});

test("invalid token counts are replaced by estimates", async () => {
  const usage = { prompt_tokens: 7.5, completion_tokens: "7", total_tokens: 1e15 };
  mockProvider.script("odd", createRecording(createChunk({ content: "Paris." }), createChunk({}, "stop", usage)));
  const { text, end } = await collectRun(createTestChain(mockProvider, ["compatible/odd"]));
  expect(text).toBe("Paris.");
  expect(end).toMatchObject({ type: "finish", usage: { estimated: true } });
  expect(end.usage?.output_tokens).toBeWithin(1, 10);
});

test("reasoning and text in one event are both used", async () => {
  mockProvider.script(
    "both",
    createRecording(
      createChunk({ reasoning_content: "Which one?", content: "Paris" }),
      createChunk({ content: "." }, "stop"),
    ),
  );
  const { text, end } = await collectRun(createTestChain(mockProvider, ["compatible/both"]));
  expect(text).toBe("Paris.");
  expect(end.usage?.reasoning_tokens).toBeGreaterThan(0);
});

test("an unknown finish reason makes the next model continue the text", async () => {
  mockProvider.script(
    "short",
    createRecording(createChunk({ content: "Parley's provider " }), createChunk({}, "insufficient_system_resource")),
  );
  const { text, resets } = await collectRun(createTestChain(mockProvider, ["compatible/short", "openai/normal"]));
  expect(text).toBe(fullAnswer);
  expect(resets).toEqual([{ type: "reset", model: "openai/normal", attempt: 2, text: "Parley's provider " }]);
});

describe("a model that continues a broken answer", () => {
  const brokenResponse = { recording: createChunk({ content: "Parley's provider " }) };

  test("is replaced by the next model if it sends no text and no token counts", async () => {
    mockProvider.script("broken", brokenResponse);
    mockProvider.script("silent", createRecording(createChunk({}, "stop")));
    const models = ["compatible/broken", "compatible/silent", "openai/normal"];
    const { text, resets, end } = await collectRun(createTestChain(mockProvider, models, { maxRetries: 0 }));
    expect([text, end]).toMatchObject([fullAnswer, { type: "finish", model: "openai/normal" }]);
    expect(resets).toEqual([{ type: "reset", model: "openai/normal", attempt: 2, text: "Parley's provider " }]);
    expect(mockProvider.listRequests("silent").length).toBe(1);
    const runWithoutThirdModel = await collectRun(createTestChain(mockProvider, models.slice(0, 2), { maxRetries: 0 }));
    expect([runWithoutThirdModel.text, runWithoutThirdModel.end]).toMatchObject([
      "Parley's provider ",
      { type: "error" },
    ]);
  });

  test("completes the answer if it reports tokens but has no text to add", async () => {
    mockProvider.script("broken", brokenResponse);
    mockProvider.script("done", createRecording(createChunk({}, "stop", { prompt_tokens: 9, completion_tokens: 1 })));
    const { text, end } = await collectRun(
      createTestChain(mockProvider, ["compatible/broken", "compatible/done"], { maxRetries: 0 }),
    );
    expect([text, end]).toMatchObject(["Parley's provider ", { type: "finish", model: "compatible/done" }]);
  });
});
