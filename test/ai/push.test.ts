import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import type { AnswerPart } from "../../src/ai/answer-part.ts";
import { createChain } from "../../src/ai/chain/chain.ts";
import type { ProviderEnd, ProviderPart, PushPart } from "../../src/ai/provider.ts";
import { silentLog } from "../support/log.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { collect, createTestChain } from "./collect.ts";

let mockProvider: MockProvider;
beforeAll(() => {
  mockProvider = startMockProvider();
});
afterEach(() => mockProvider.reset());
afterAll(() => mockProvider.stop());

const words = (parts: AnswerPart[]) => parts.map((part) => (part.type === "text" ? part.text : part.type));

test.each(["openai", "anthropic", "compatible"])("%s: every piece is a separate part", async (provider) => {
  mockProvider.script("steady", { pieces: ["one ", "two ", "three ", "four"], pieceDelayMs: 20 });
  const { parts } = await collect(createTestChain(mockProvider, [`${provider}/steady`]));
  expect(words(parts)).toEqual(["start", "one ", "two ", "three ", "four"]);
});

test("a reset comes before the first text of the attempt that continues", async () => {
  mockProvider.script("first", { pieces: ["The capital ", "of ", "France"], pieceDelayMs: 20, fault: "cut", after: 3 });
  mockProvider.script("second", { pieces: [" is", " the city", " of Paris."], pieceDelayMs: 20 });
  const { parts, text } = await collect(createTestChain(mockProvider, ["openai/first", "anthropic/second"]));
  expect(text).toBe("The capital of France is the city of Paris.");
  const all = ["start", "The capital ", "of ", "France", "reset", " is", " the city", " of Paris."];
  expect(words(parts)).toEqual(all);
});

test("a part reaches the reader in the tick in which its provider pushes it", async () => {
  let push: PushPart<ProviderPart> = () => {};
  const { promise: ended, resolve: endWith } = Promise.withResolvers<ProviderEnd>();
  const chain = createChain({
    providers: new Map([
      [
        "own",
        {
          name: "own",
          stream: (_request, given) => {
            push = given;
            return ended;
          },
        },
      ],
    ]),
    models: ["own/model"],
    timeoutsOf: () => ({ firstTokenMs: 1_000, idleMs: 1_000 }),
    maxRetries: 0,
    log: silentLog,
  });
  const seen: AnswerPart[] = [];
  const request = { model: null, messages: [], signal: new AbortController().signal };
  const run = chain.run(request, (part) => seen.push(part));
  await Bun.sleep(0);
  push({ type: "text", text: "one " });
  expect(words(seen)).toEqual(["start", "one "]);
  push({ type: "text", text: "two" });
  expect(words(seen)).toEqual(["start", "one ", "two"]);
  endWith({ type: "finish", reason: "stop", usage: null });
  expect((await run).type).toBe("finish");
});
