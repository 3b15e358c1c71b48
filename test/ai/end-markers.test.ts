import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { collectRun, createTestChain } from "./collect.ts";
import { type RawResponse, type RawResponseServer, startRawResponseServer } from "./raw-responses.ts";
import { formatEvent } from "./read-body.ts";

let mockProvider: MockProvider;
let rawServer: RawResponseServer;
beforeAll(() => {
  mockProvider = startMockProvider();
  rawServer = startRawResponseServer(mockProvider);
});
afterEach(() => {
  rawServer.responses.clear();
  rawServer.requestedModels.length = 0;
});
afterAll(async () => {
  rawServer.stop();
  await mockProvider.stop();
});

const createChunk = (content: string, finish_reason: string | null = null) => ({
  choices: [{ index: 0, delta: { content }, finish_reason }],
});

/** Calls a model that sends this response, with a fallback model that never responds. */
async function runChain(provider: string, response: RawResponse, idleTimeoutMs: number) {
  rawServer.responses.set("raw", response);
  const chain = createTestChain(rawServer.mockProvider, [`${provider}/raw`, `${provider}/other`], { idleTimeoutMs });
  const { text, end } = await collectRun(chain);
  return { text, end, requestedModels: [...rawServer.requestedModels] };
}

test.each([
  [
    "anthropic",
    formatEvent(null, { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "Hi." } }),
    formatEvent(null, { type: "message_delta", delta: { stop_reason: "end_turn" } }),
  ],
  ["compatible", formatEvent(null, createChunk("Hi.")), formatEvent(null, createChunk("", "stop"))],
])("%s: an answer is complete even if the server leaves the connection open", async (provider, text, end) => {
  for (const idleTimeoutMs of [100, 900]) {
    const result = await runChain(provider, { packets: [text, end], end: "open" }, idleTimeoutMs);
    expect(result).toMatchObject({ text: "Hi.", end: { type: "finish", reason: "stop", model: `${provider}/raw` } });
  }
  expect(rawServer.requestedModels).toEqual(["raw", "raw"]);
});

test("no text is lost if every event has a finish reason", async () => {
  const words = Array.from({ length: 8 }, (_, index) => `word${index} `);
  const packets = [...words.map((word) => formatEvent(null, createChunk(word, "stop"))), "data: [DONE]\n\n"];
  const result = await runChain("compatible", { packets, pauseMs: 200 }, 5_000);
  expect(result).toMatchObject({
    text: words.join(""),
    end: { type: "finish", reason: "stop" },
    requestedModels: ["raw"],
  });
});

test.each(["\n", ""])(
  "chunks that aren't framed as events (separated by %j) are read as JSON lines",
  async (separator) => {
    const packets = [createChunk("Hel"), createChunk("lo."), createChunk("", "stop")].map(
      (data) => `${JSON.stringify(data)}${separator}`,
    );
    for (const variant of [packets, [packets.join("")]]) {
      rawServer.requestedModels.length = 0;
      const { text, requestedModels } = await runChain("compatible", { packets: variant }, 300);
      expect([text, requestedModels[0], requestedModels[1]]).toEqual(["Hello.", "raw", undefined]);
    }
  },
);

test("a message with the stop reason tool_use but no valid tool call is complete", async () => {
  const packets = [
    formatEvent(null, { type: "content_block_start", index: 0, content_block: { type: "text", text: "Hi." } }),
    formatEvent(null, { type: "content_block_start", index: 1, content_block: { type: "tool_use", input: {} } }),
    formatEvent(null, { type: "message_delta", delta: { stop_reason: "tool_use" } }),
    formatEvent(null, { type: "message_stop" }),
  ];
  const { end } = await runChain("anthropic", { packets }, 300);
  expect(end).toMatchObject({ type: "finish", reason: "stop", toolCalls: [] });
});
