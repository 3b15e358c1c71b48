import { expect, test } from "bun:test";
import { fitMessages } from "../../src/ai/fit-messages.ts";
import type { ChatMessage } from "../../src/ai/provider.ts";
import {
  ESTIMATE_MARGIN,
  estimateMessageTokens,
  estimateTokens,
  estimateTotalTokens,
  getMessageTokensUpperBound,
  MESSAGE_TOKENS,
} from "../../src/ai/tokens.ts";

// The counts are from OpenAI's tokenizer o200k_base.
const samples: [string, number][] = [
  [
    "The quick brown fox jumps over the lazy dog. I think that we should meet tomorrow, because the weather will be better than it was today.",
    29,
  ],
  [
    "Der schnelle braune Fuchs springt über den faulen Hund. Die Datenbankverbindung wurde unerwartet geschlossen, weshalb die Nachrichtenübertragung fehlgeschlagen ist. Bitte versuchen Sie es später noch einmal. ",
    44,
  ],
  ["Быстрая коричневая лиса перепрыгивает через ленивую собаку, а база данных хранит все сообщения.", 28],
  ["快速的棕色狐狸跳过了懒狗。数据库连接意外关闭,因此消息传输失败。请稍后再试。", 31],
  ["빠른 갈색 여우가 게으른 개를 뛰어넘습니다. 데이터베이스 연결이 닫혔습니다.", 28],
  ["สุนัขจิ้งจอกสีน้ำตาลกระโดดข้ามสุนัขขี้เกียจ", 28],
  ["🚀🎉😀👍🏽👩‍👩‍👧", 16],
];
test.each(samples)("the token count of %j is estimated within 25 percent", (text, tokens) => {
  expect(estimateTokens(text) / tokens).toBeGreaterThan(0.8);
  expect(estimateTokens(text) / tokens).toBeLessThan(1.25);
});

test("an empty string has no tokens, and a long one is counted quickly", () => {
  expect(estimateTokens("")).toBe(0);
  for (const unit of ["a", "世", " ", "\n", "-", "🚀", "a1"]) {
    const text = unit.repeat(200_000);
    const startedAtMs = performance.now();
    expect(estimateTokens(text)).toBeLessThanOrEqual(text.length);
    expect(performance.now() - startedAtMs).toBeLessThan(250);
  }
});

test.each(samples)("with the margin, the estimate of %j is not too low", (text, tokens) => {
  expect(estimateTokens(text) * ESTIMATE_MARGIN).toBeGreaterThanOrEqual(tokens);
});

test("a message has more tokens than its text", () => {
  expect(estimateTotalTokens([{ role: "user", content: "Hello" }])).toBe(estimateTokens("Hello") + MESSAGE_TOKENS);
  expect(estimateTotalTokens([])).toBe(0);
});

test("a message's tool calls are counted like text", () => {
  const argumentsText = JSON.stringify({ query: "all that was written about the harbour".repeat(1_000) });
  const message: ChatMessage = {
    role: "assistant",
    content: "Let me look.",
    toolCalls: [{ id: "call_1", name: "search_documents", arguments: argumentsText }],
  };
  const countedStrings = ["Let me look.", "search_documents", argumentsText];
  const expected = countedStrings.reduce((sum, text) => sum + estimateTokens(text), MESSAGE_TOKENS);
  expect(estimateMessageTokens(message)).toBe(expected);
  expect(getMessageTokensUpperBound(message)).toBeGreaterThanOrEqual(expected);
  const question: ChatMessage = { role: "user", content: "And now?" };
  expect(fitMessages([{ role: "user", content: "Look." }, message, question], 1_000)).toEqual([question]);
});
