import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { type ProviderStandIn, startProviderStandIn } from "../support/provider-stand-in/server.ts";
import { createTestChain } from "./collect.ts";

let standIn: ProviderStandIn;
beforeAll(() => {
  standIn = startProviderStandIn();
});
afterEach(() => standIn.reset());
afterAll(() => standIn.stop());

const request = {
  model: null,
  messages: [{ role: "user" as const, content: "What is Parley?" }],
  signal: new AbortController().signal,
};

/** What came as parts, and what was handed on at once. */
async function read(models: string[], isPushed: boolean) {
  const pushed: string[] = [];
  const parts: string[] = [];
  let text = "";
  const onText = (piece: string) => {
    pushed.push(piece);
    text += piece;
  };
  for await (const part of createTestChain(standIn, models).run({ ...request, ...(isPushed && { onText }) })) {
    if (part.type === "text") text += part.text;
    if (part.type === "reset") text = part.text;
    parts.push(part.type === "text" ? part.text : part.type);
  }
  return { pushed, parts, text };
}

const script = () => standIn.script("steady", { pieces: ["one ", "two ", "three ", "four"], pieceDelayMs: 20 });

test.each(["openai", "anthropic", "compatible"])(
  "%s: texts after the first are handed on at once",
  async (provider) => {
    script();
    const { pushed, parts, text } = await read([`${provider}/steady`], true);
    expect(text).toBe("one two three four");
    expect(parts).toEqual(["start", "one ", "finish"]);
    expect(pushed).toEqual(["two ", "three ", "four"]);
  },
);

test("without a taker they all come as parts", async () => {
  script();
  const { pushed, parts } = await read(["openai/steady"], false);
  expect(parts).toEqual(["start", "one ", "two ", "three ", "four", "finish"]);
  expect(pushed).toEqual([]);
});

test("what a reset has to be said before comes after it, as a part", async () => {
  standIn.script("first", { pieces: ["The capital ", "of ", "France"], pieceDelayMs: 20, fault: "cut", after: 3 });
  standIn.script("second", { pieces: [" is", " the city", " of Paris."], pieceDelayMs: 20 });
  const { pushed, parts, text } = await read(["openai/first", "anthropic/second"], true);
  expect(text).toBe("The capital of France is the city of Paris.");
  expect(parts).toEqual(["start", "The capital ", "reset", " is", "finish"]);
  expect(pushed).toEqual(["of ", "France", " the city", " of Paris."]);
});
