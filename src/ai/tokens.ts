import type { AnswerOptions, ChatMessage } from "./provider.ts";

/**
 * Estimates the number of tokens in text. Relative to OpenAI's tokenizer `o200k_base`, the estimate is 1.0 to 1.1 times the
 * actual count for English, German, JSON, Chinese, Japanese and Korean, 1.2 for code, 0.8 for Polish and base64, 1.3 to 1.4 for
 * Russian, Hindi and Thai, and 0.7 for lists of numbers. The tokenizers of different models differ by as much. A real tokenizer
 * would cost startup time and memory, and would take seconds for long words (docs/decisions/0010).
 */
export function estimateTokens(text: string): number {
  let tokens = 0;
  let kind: CharKind = CharKind.Space;
  let length = 0;
  const endRun = () => {
    tokens += estimateRunTokens(kind, length);
    length = 0;
  };
  for (let index = 0; index < text.length; index += 1) {
    const nextKind = classifyChar(text.charCodeAt(index));
    const isSameWord = nextKind === kind || (kind === CharKind.Upper && nextKind === CharKind.Lower && length === 1);
    if (!isSameWord) endRun();
    kind = nextKind;
    length += 1;
  }
  endRun();
  return Math.ceil(tokens);
}

/** Factor by which to multiply an estimate that must not be too low. */
export const ESTIMATE_MARGIN = 1.25;

/** Additional tokens per message for its role and delimiters. */
export const MESSAGE_TOKENS = 4;

/** Returns the strings in a message that a model receives. */
const listStrings = (message: ChatMessage): string[] => {
  const calls = message.role === "assistant" ? (message.toolCalls ?? []) : [];
  return [message.content, ...calls.flatMap((call) => [call.name, call.arguments])];
};

/** Estimates the tokens of a message. */
export const estimateMessageTokens = (message: ChatMessage): number =>
  listStrings(message).reduce((sum, text) => sum + estimateTokens(text), MESSAGE_TOKENS);

/** Returns an upper bound for `estimateMessageTokens` without reading the message. */
export const getMessageTokensUpperBound = (message: ChatMessage): number =>
  listStrings(message).reduce((sum, text) => sum + text.length, MESSAGE_TOKENS);

/** Estimates the tokens of all messages. */
export const estimateTotalTokens = (messages: readonly ChatMessage[]): number =>
  messages.reduce((sum, message) => sum + estimateMessageTokens(message), 0);

/** Estimates the maximum tokens of the thinking in messages. Some providers only count the latest thinking. */
export const estimateThinkingTokens = (messages: readonly ChatMessage[]): number =>
  messages.reduce((sum, message) => {
    const thinking = message.role === "assistant" ? message.thinking : undefined;
    return sum + (thinking ? estimateTokens(JSON.stringify(thinking.data)) : 0);
  }, 0);

/** Estimates the tokens of the tools and the format in the prompt. */
export function estimateOptionTokens({ tools = [], format }: AnswerOptions): number {
  const definitions = [...tools, ...(format ? [format] : [])];
  return definitions.length === 0 ? 0 : estimateTokens(JSON.stringify(definitions));
}

enum CharKind {
  Space,
  Line,
  Lower,
  Upper,
  Digit,
  Mark,
  /** Letters of other alphabets and accented Latin letters. */
  Letter,
  /** South and Southeast Asian letters, which combine into syllables. */
  Syllable,
  /** Characters that are words or syllables: Chinese, Japanese, Korean. */
  Ideograph,
  /** Half of a surrogate pair, usually of an emoji. */
  Surrogate,
}

function classifyChar(unit: number): CharKind {
  if (unit >= 0x61 && unit <= 0x7a) return CharKind.Lower;
  if (unit === 0x20) return CharKind.Space;
  if (unit >= 0x41 && unit <= 0x5a) return CharKind.Upper;
  if (unit >= 0x30 && unit <= 0x39) return CharKind.Digit;
  if (unit < 0x20) return CharKind.Line;
  if (unit < 0xc0) return CharKind.Mark;
  if (unit < 0x0900) return CharKind.Letter;
  if (unit < 0x2000) return CharKind.Syllable;
  if (unit < 0x2e80) return CharKind.Mark;
  if (unit >= 0xd800 && unit < 0xe000) return CharKind.Surrogate;
  return CharKind.Ideograph;
}

/** Estimates the tokens of consecutive characters of one kind. */
function estimateRunTokens(kind: CharKind, length: number): number {
  if (length === 0) return 0;
  switch (kind) {
    case CharKind.Space:
      // A single space is part of the next word's token.
      return length > 1 ? 1 : 0;
    case CharKind.Lower:
      return 0.9 + Math.max(0, length - 5) * 0.2;
    case CharKind.Upper:
      return 0.5 + length * 0.4;
    case CharKind.Digit:
      return Math.ceil(length / 3);
    case CharKind.Mark:
      return length === 1 ? 0.9 : 0.6 + length * 0.3;
    case CharKind.Letter:
      return 0.4 + length * 0.33;
    case CharKind.Syllable:
      return length * 0.62;
    case CharKind.Ideograph:
      return length * 0.85;
    case CharKind.Surrogate:
      return length;
    case CharKind.Line:
      return 1;
  }
}
