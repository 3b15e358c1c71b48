import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import type { AnswerPart } from "../../src/ai/answer-part.ts";
import { createChain } from "../../src/ai/chain/chain.ts";
import type { ProviderEnd, ProviderPart, PushPart } from "../../src/ai/provider.ts";
import { silentLog } from "../support/log.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { collectRun, createTestChain } from "./collect.ts";

let mockProvider: MockProvider;
beforeAll(() => {
  mockProvider = startMockProvider();
});
afterEach(() => mockProvider.reset());
afterAll(() => mockProvider.stop());

const describeParts = (parts: AnswerPart[]) => parts.map((part) => (part.type === "text" ? part.text : part.type));

test.each(["openai", "anthropic", "compatible"])("%s: every delta is a separate part", async (provider) => {
  mockProvider.script("steady", { pieces: ["one ", "two ", "three ", "four"], pieceDelayMs: 20 });
  const { parts } = await collectRun(createTestChain(mockProvider, [`${provider}/steady`]));
  expect(describeParts(parts)).toEqual(["start", "one ", "two ", "three ", "four"]);
});

test("a reset comes before the first text of the attempt that continues", async () => {
  mockProvider.script("first", {
    pieces: ["The capital ", "of ", "France"],
    pieceDelayMs: 20,
    fault: "cut",
    piecesBeforeFault: 3,
  });
  mockProvider.script("second", { pieces: [" is", " the city", " of Paris."], pieceDelayMs: 20 });
  const { parts, text } = await collectRun(createTestChain(mockProvider, ["openai/first", "anthropic/second"]));
  expect(text).toBe("The capital of France is the city of Paris.");
  const expected = ["start", "The capital ", "of ", "France", "reset", " is", " the city", " of Paris."];
  expect(describeParts(parts)).toEqual(expected);
});

test("the reader receives a part in the tick in which the provider pushes it", async () => {
  let push: PushPart<ProviderPart> = () => {};
  const { promise: streamEnd, resolve: endStream } = Promise.withResolvers<ProviderEnd>();
  const chain = createChain({
    providers: new Map([
      [
        "own",
        {
          name: "own",
          stream: (_request, pushPart) => {
            push = pushPart;
            return streamEnd;
          },
        },
      ],
    ]),
    models: ["own/model"],
    getTimeouts: () => ({ firstTokenMs: 1_000, idleMs: 1_000 }),
    maxRetries: 0,
    log: silentLog,
  });
  const receivedParts: AnswerPart[] = [];
  const request = { model: null, messages: [], signal: new AbortController().signal };
  const run = chain.run(request, (part) => receivedParts.push(part));
  await Bun.sleep(0);
  push({ type: "text", text: "one " });
  expect(describeParts(receivedParts)).toEqual(["start", "one "]);
  push({ type: "text", text: "two" });
  expect(describeParts(receivedParts)).toEqual(["start", "one ", "two"]);
  endStream({ type: "finish", reason: "stop", usage: null });
  expect((await run).type).toBe("finish");
});
