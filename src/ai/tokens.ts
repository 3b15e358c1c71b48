import type { AnswerOptions, ChatMessage } from "./provider.ts";

/**
 * Estimates the number of tokens in a text. Relative to OpenAI's tokenizer `o200k_base`, the estimate is 1.0 to 1.1 times the
 * actual count for English, German, JSON, Chinese, Japanese and Korean, 1.2 for code, 0.8 for Polish and base64, 1.3 to 1.4 for
 * Russian, Hindi and Thai, and 0.7 for lists of numbers. The tokenizers of different models differ by as much. A real tokenizer
 * would cost startup time and memory, and would take seconds for long words (docs/decisions/0010).
 */
export function estimateTokens(text: string): number {
  let tokens = 0;
  let kind: Kind = Kind.Space;
  let length = 0;
  const endRun = () => {
    tokens += estimateRun(kind, length);
    length = 0;
  };
  for (let index = 0; index < text.length; index += 1) {
    const nextKind = classify(text.charCodeAt(index));
    const isSameWord = nextKind === kind || (kind === Kind.Upper && nextKind === Kind.Lower && length === 1);
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

/** Returns the texts of a message that a model receives. */
const listTexts = (message: ChatMessage): string[] => {
  const calls = message.role === "assistant" ? (message.toolCalls ?? []) : [];
  return [message.content, ...calls.flatMap((call) => [call.name, call.arguments])];
};

/** Estimates the tokens of a message. */
export const countMessage = (message: ChatMessage): number =>
  listTexts(message).reduce((sum, text) => sum + estimateTokens(text), MESSAGE_TOKENS);

/** Returns an upper bound for `countMessage` without reading the texts. */
export const countMessageUpperBound = (message: ChatMessage): number =>
  listTexts(message).reduce((sum, text) => sum + text.length, MESSAGE_TOKENS);

/** Estimates the tokens of all messages. */
export const countMessages = (messages: readonly ChatMessage[]): number =>
  messages.reduce((sum, message) => sum + countMessage(message), 0);

/** Estimates the maximum tokens of the thinking in messages. Some providers only count the latest thinking. */
export const countThinking = (messages: readonly ChatMessage[]): number =>
  messages.reduce((sum, message) => {
    const thinking = message.role === "assistant" ? message.thinking : undefined;
    return sum + (thinking ? estimateTokens(JSON.stringify(thinking.data)) : 0);
  }, 0);

/** Estimates the tokens of the tools and the format in the prompt. */
export function countOptions({ tools = [], format }: AnswerOptions): number {
  const definitions = [...tools, ...(format ? [format] : [])];
  return definitions.length === 0 ? 0 : estimateTokens(JSON.stringify(definitions));
}

enum Kind {
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

function classify(unit: number): Kind {
  if (unit >= 0x61 && unit <= 0x7a) return Kind.Lower;
  if (unit === 0x20) return Kind.Space;
  if (unit >= 0x41 && unit <= 0x5a) return Kind.Upper;
  if (unit >= 0x30 && unit <= 0x39) return Kind.Digit;
  if (unit < 0x20) return Kind.Line;
  if (unit < 0xc0) return Kind.Mark;
  if (unit < 0x0900) return Kind.Letter;
  if (unit < 0x2000) return Kind.Syllable;
  if (unit < 0x2e80) return Kind.Mark;
  if (unit >= 0xd800 && unit < 0xe000) return Kind.Surrogate;
  return Kind.Ideograph;
}

/** Estimates the tokens of consecutive characters of one kind. */
function estimateRun(kind: Kind, length: number): number {
  if (length === 0) return 0;
  switch (kind) {
    case Kind.Space:
      // A single space is part of the next word's token.
      return length > 1 ? 1 : 0;
    case Kind.Lower:
      return 0.9 + Math.max(0, length - 5) * 0.2;
    case Kind.Upper:
      return 0.5 + length * 0.4;
    case Kind.Digit:
      return Math.ceil(length / 3);
    case Kind.Mark:
      return length === 1 ? 0.9 : 0.6 + length * 0.3;
    case Kind.Letter:
      return 0.4 + length * 0.33;
    case Kind.Syllable:
      return length * 0.62;
    case Kind.Ideograph:
      return length * 0.85;
    case Kind.Surrogate:
      return length;
    case Kind.Line:
      return 1;
  }
}
