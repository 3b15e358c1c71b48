/** How a model fails. Words are counted from 1. */
export type Fault =
  /** An HTTP error instead of an answer. */
  | { kind: "status"; status: number; retryAfterS?: number }
  /** A response with headers, but no tokens. */
  | { kind: "hang" }
  /** The connection is reset after `afterWords` words. */
  | { kind: "cut"; afterWords: number }
  /** The stream is closed normally after `afterWords` words, but without its end marker. */
  | { kind: "unfinished"; afterWords: number }
  /** An error event in a response with status 200. */
  | { kind: "error_event"; afterWords: number };

export type Script = {
  wordDelayMs: number;
  /** Delay between words when the model continues an interrupted answer. */
  resumedDelayMs?: number;
  fault?: Fault;
  /** The number of requests that fail before the model works; absent: all fail. */
  faults?: number;
};

/** The number of words in an answer. All models write the same text, so that one can continue another's answer. */
export const SHORT_WORDS = 60;
/** At `LONG_DELAY_MS` per word, the answer takes longer than any check, unless another attempt finishes it. */
export const LONG_WORDS = 900;
const LONG_DELAY_MS = 50;
const RESUMED_DELAY_MS = 1;
const FAULTY_AFTER_WORDS = 20;

/** `Retry-After` values: one that is short enough to wait for, and one that isn't. */
export const SHORT_RETRY_S = 1;
const LONG_RETRY_S = 60;

/** The models of the provider `flaky`. Most of them fail. */
export const flakyModels = {
  "error-500": { wordDelayMs: 2, fault: { kind: "status", status: 500 } },
  "error-429": { wordDelayMs: 2, fault: { kind: "status", status: 429, retryAfterS: LONG_RETRY_S } },
  "busy-once": { wordDelayMs: 2, fault: { kind: "status", status: 429, retryAfterS: SHORT_RETRY_S }, faults: 1 },
  hang: { wordDelayMs: 2, fault: { kind: "hang" } },
  cut: { wordDelayMs: 5, fault: { kind: "cut", afterWords: FAULTY_AFTER_WORDS } },
  unfinished: { wordDelayMs: 5, fault: { kind: "unfinished", afterWords: FAULTY_AFTER_WORDS } },
  "error-event": { wordDelayMs: 5, fault: { kind: "error_event", afterWords: FAULTY_AFTER_WORDS } },
  /** Works: the whole answer takes longer than the timeout below, but no pause does. */
  slow: { wordDelayMs: 60 },
} satisfies Record<string, Script>;

/** The models of the provider `steady`. They always work. */
const steadyModels = {
  short: { wordDelayMs: 2 },
  long: { wordDelayMs: LONG_DELAY_MS, resumedDelayMs: RESUMED_DELAY_MS },
} satisfies Record<string, Script>;

export const scripts: Record<string, Script> = { ...flakyModels, ...steadyModels };

export const SHORT_MODEL = "steady/short";
export const LONG_MODEL = "steady/long";

/** The first-token timeout and the idle timeout of the provider `flaky`. */
export const FLAKY_SILENCE_MS = 1_500;

/** Returns the text of an answer with this number of words: `w1 w2 w3`. */
export const writeText = (words: number): string => Array.from({ length: words }, (_, n) => `w${n + 1}`).join(" ");
