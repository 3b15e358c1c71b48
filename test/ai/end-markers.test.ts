import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { collect, createTestChain } from "./collect.ts";
import { type RawResponse, type RawResponseServer, startRawResponseServer } from "./raw-responses.ts";
import { event } from "./read-body.ts";

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

const chunk = (content: string, finish_reason: string | null = null) => ({
  choices: [{ index: 0, delta: { content }, finish_reason }],
});

/** Calls a model that sends this response, with a fallback model that never responds. */
async function runChain(provider: string, response: RawResponse, idleTimeoutMs: number) {
  rawServer.responses.set("raw", response);
  const chain = createTestChain(rawServer.mockProvider, [`${provider}/raw`, `${provider}/other`], { idleTimeoutMs });
  const { text, end } = await collect(chain);
  return { text, end, requestedModels: [...rawServer.requestedModels] };
}

test.each([
  [
    "anthropic",
    event(null, { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "Hi." } }),
    event(null, { type: "message_delta", delta: { stop_reason: "end_turn" } }),
  ],
  ["compatible", event(null, chunk("Hi.")), event(null, chunk("", "stop"))],
])("%s: an answer is complete even if the server leaves the connection open", async (provider, text, end) => {
  for (const idleTimeoutMs of [100, 900]) {
    const result = await runChain(provider, { packets: [text, end], end: "open" }, idleTimeoutMs);
    expect(result).toMatchObject({ text: "Hi.", end: { type: "finish", reason: "stop", model: `${provider}/raw` } });
  }
  expect(rawServer.requestedModels).toEqual(["raw", "raw"]);
});

test("no text is lost if every event has a finish reason", async () => {
  const words = Array.from({ length: 8 }, (_, index) => `word${index} `);
  const packets = [...words.map((word) => event(null, chunk(word, "stop"))), "data: [DONE]\n\n"];
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
    const packets = [chunk("Hel"), chunk("lo."), chunk("", "stop")].map(
      (part) => `${JSON.stringify(part)}${separator}`,
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
    event(null, { type: "content_block_start", index: 0, content_block: { type: "text", text: "Hi." } }),
    event(null, { type: "content_block_start", index: 1, content_block: { type: "tool_use", input: {} } }),
    event(null, { type: "message_delta", delta: { stop_reason: "tool_use" } }),
    event(null, { type: "message_stop" }),
  ];
  const { end } = await runChain("anthropic", { packets }, 300);
  expect(end).toMatchObject({ type: "finish", reason: "stop", toolCalls: [] });
});
