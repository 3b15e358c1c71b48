import type { AnswerOptions, ChatMessage } from "./provider.ts";

/**
 * Estimates the tokens of a text in one pass, wherever a count is needed before a provider reports one: what fits a window,
 * what a budget reserves, what a failed attempt has used. Measured against OpenAI's `o200k_base` (estimate divided by
 * count): English and German 1.0 to 1.1, code 1.2, JSON 1.0, Chinese, Japanese and Korean 1.0 to 1.1, Polish 0.8, Russian
 * 1.3, Hindi and Thai 1.3 to 1.4, base64 0.8, lists of numbers 0.7. It matches no particular model: Claude, Llama and GPT
 * differ from each other by as much, and a tokenizer with its vocabulary would cost start-up time, memory and, on long
 * words, seconds (docs/decisions/0010).
 */
export function estimateTokens(text: string): number {
  let tokens = 0;
  let kind: Kind = Kind.Space;
  let run = 0;
  const close = () => {
    tokens += costOf(kind, run);
    run = 0;
  };
  for (let index = 0; index < text.length; index += 1) {
    const next = kindOf(text.charCodeAt(index));
    const isSameWord = next === kind || (kind === Kind.Upper && next === Kind.Lower && run === 1);
    if (!isSameWord) close();
    kind = next;
    run += 1;
  }
  close();
  return Math.ceil(tokens);
}

/** Multiplied by this, an estimate is rarely too low for human text; for uses where it must not be too low. */
export const ESTIMATE_MARGIN = 1.25;

/** Extra tokens of a message for its role and delimiters. */
export const MESSAGE_TOKENS = 4;

/** The parts of a message that a model receives: its text, and its calls with their arguments. */
const listTexts = (message: ChatMessage): string[] => {
  const calls = message.role === "assistant" ? (message.toolCalls ?? []) : [];
  return [message.content, ...calls.flatMap((call) => [call.name, call.arguments])];
};

/** Tokens of a model's window that a message uses. */
export const countMessage = (message: ChatMessage): number =>
  listTexts(message).reduce((sum, text) => sum + estimateTokens(text), MESSAGE_TOKENS);

/** An upper bound for `countMessage`, found without reading the texts. */
export const countMessageUpperBound = (message: ChatMessage): number =>
  listTexts(message).reduce((sum, text) => sum + text.length, MESSAGE_TOKENS);

/** Tokens of all messages. */
export const countMessages = (messages: readonly ChatMessage[]): number =>
  messages.reduce((sum, message) => sum + countMessage(message), 0);

/** Tokens that thinking takes which goes back with messages: at most, since some providers read only the newest of it. */
export const countThinking = (messages: readonly ChatMessage[]): number =>
  messages.reduce((sum, message) => {
    const thinking = message.role === "assistant" ? message.thinking : undefined;
    return sum + (thinking ? estimateTokens(JSON.stringify(thinking.data)) : 0);
  }, 0);

/** Tokens that the tools and the format of an answer take of the prompt. */
export function countOptions({ tools = [], format }: AnswerOptions): number {
  const shown = [...tools, ...(format ? [format] : [])];
  return shown.length === 0 ? 0 : estimateTokens(JSON.stringify(shown));
}

enum Kind {
  Space,
  Line,
  Lower,
  Upper,
  Digit,
  Mark,
  /** Letters of other alphabets, and Latin letters beyond ASCII. */
  Letter,
  /** South and Southeast Asian letters, several of which form a syllable. */
  Syllable,
  /** Characters that are words or syllables: Chinese, Japanese, Korean. */
  Ideograph,
  /** Half of a character beyond the first plane, mostly emoji. */
  Surrogate,
}

function kindOf(unit: number): Kind {
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

/** Tokens of a run of characters of one kind. */
function costOf(kind: Kind, run: number): number {
  if (run === 0) return 0;
  switch (kind) {
    case Kind.Space:
      // A single space belongs to the next word.
      return run > 1 ? 1 : 0;
    case Kind.Lower:
      return 0.9 + Math.max(0, run - 5) * 0.2;
    case Kind.Upper:
      return 0.5 + run * 0.4;
    case Kind.Digit:
      return Math.ceil(run / 3);
    case Kind.Mark:
      return run === 1 ? 0.9 : 0.6 + run * 0.3;
    case Kind.Letter:
      return 0.4 + run * 0.33;
    case Kind.Syllable:
      return run * 0.62;
    case Kind.Ideograph:
      return run * 0.85;
    case Kind.Surrogate:
      return run;
    case Kind.Line:
      return 1;
  }
}
