import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { collect, createTestChain } from "./collect.ts";
import { type RawAnswer, type RawAnswers, serveRawAnswers } from "./raw-answers.ts";
import { event } from "./read-body.ts";

let mockProvider: MockProvider;
let raw: RawAnswers;
beforeAll(() => {
  mockProvider = startMockProvider();
  raw = serveRawAnswers(mockProvider);
});
afterEach(() => {
  raw.answers.clear();
  raw.requestedModels.length = 0;
});
afterAll(async () => {
  raw.stop();
  await mockProvider.stop();
});

const chunk = (content: string, finish_reason: string | null = null) => ({
  choices: [{ index: 0, delta: { content }, finish_reason }],
});

/** Calls a first model with this response, and a second one that never responds in time. */
async function ask(provider: string, answer: RawAnswer, idleTimeoutMs: number) {
  raw.answers.set("raw", answer);
  const chain = createTestChain(raw.mockProvider, [`${provider}/raw`, `${provider}/other`], { idleTimeoutMs });
  const { text, end } = await collect(chain);
  return { text, end, requestedModels: [...raw.requestedModels] };
}

test.each([
  [
    "anthropic",
    event(null, { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "Hi." } }),
    event(null, { type: "message_delta", delta: { stop_reason: "end_turn" } }),
  ],
  ["compatible", event(null, chunk("Hi.")), event(null, chunk("", "stop"))],
])(
  "%s: silence after the end doesn't count against the model, however short its timeout",
  async (provider, text, end) => {
    for (const idleTimeoutMs of [100, 900]) {
      const result = await ask(provider, { packets: [text, end], end: "open" }, idleTimeoutMs);
      expect(result).toMatchObject({ text: "Hi.", end: { type: "finish", reason: "stop", model: `${provider}/raw` } });
    }
    expect(raw.requestedModels).toEqual(["raw", "raw"]);
  },
);

test("a server with a finish reason in every event is read to its last text", async () => {
  const words = Array.from({ length: 8 }, (_, index) => `word${index} `);
  const packets = [...words.map((word) => event(null, chunk(word, "stop"))), "data: [DONE]\n\n"];
  const result = await ask("compatible", { packets, pauseMs: 200 }, 5_000);
  expect(result).toMatchObject({
    text: words.join(""),
    end: { type: "finish", reason: "stop" },
    requestedModels: ["raw"],
  });
});

test.each(["\n", ""])(
  "the first of several unframed chunks (%j between) isn't a complete answer: they are JSON lines",
  async (between) => {
    const packets = [chunk("Hel"), chunk("lo."), chunk("", "stop")].map((part) => `${JSON.stringify(part)}${between}`);
    for (const packed of [packets, [packets.join("")]]) {
      raw.requestedModels.length = 0;
      const { text, requestedModels } = await ask("compatible", { packets: packed }, 300);
      expect([text, requestedModels[0], requestedModels[1]]).toEqual(["Hello.", "raw", undefined]);
    }
  },
);

test("a message that stops for tools without calling any is complete", async () => {
  const packets = [
    event(null, { type: "content_block_start", index: 0, content_block: { type: "text", text: "Hi." } }),
    event(null, { type: "content_block_start", index: 1, content_block: { type: "tool_use", input: {} } }),
    event(null, { type: "message_delta", delta: { stop_reason: "tool_use" } }),
    event(null, { type: "message_stop" }),
  ];
  const { end } = await ask("anthropic", { packets }, 300);
  expect(end).toMatchObject({ type: "finish", reason: "stop", toolCalls: [] });
});
