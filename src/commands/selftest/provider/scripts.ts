/** An injected fault. Words are counted from 1. */
export type Fault =
  /** An HTTP error instead of an answer. */
  | { kind: "status"; status: number; retryAfterS?: number }
  /** A response that never sends a token. */
  | { kind: "hang" }
  /** The connection is reset after `afterWords` words. */
  | { kind: "cut"; afterWords: number }
  /** The stream is closed normally after `afterWords` words, but without `[DONE]`. */
  | { kind: "unfinished"; afterWords: number }
  /** An error event after `afterWords` words, in a response with status 200. */
  | { kind: "error_event"; afterWords: number };

export type Script = {
  wordDelayMs: number;
  /** Delay between words when the model continues an interrupted answer. */
  resumedDelayMs?: number;
  fault?: Fault;
  /** Number of requests that fail before the model works. If absent, all requests fail. */
  faultyRequests?: number;
};

/** Words in a normal answer. All models write the same text, so each model can continue another model's answer. */
export const SHORT_WORDS = 60;
/** Words in a long answer. At `LONG_DELAY_MS` per word, it takes longer than any check, unless another attempt finishes it. */
export const LONG_WORDS = 900;
const LONG_DELAY_MS = 50;
const RESUMED_DELAY_MS = 1;
const FAULT_AFTER_WORDS = 20;

/** The `Retry-After` values. Parley waits for the short time, but not for the long one. */
export const SHORT_RETRY_S = 1;
const LONG_RETRY_S = 60;

/** The models of the provider `flaky`. Most of them fail. */
export const flakyModels = {
  "error-500": { wordDelayMs: 2, fault: { kind: "status", status: 500 } },
  "error-429": { wordDelayMs: 2, fault: { kind: "status", status: 429, retryAfterS: LONG_RETRY_S } },
  "busy-once": {
    wordDelayMs: 2,
    fault: { kind: "status", status: 429, retryAfterS: SHORT_RETRY_S },
    faultyRequests: 1,
  },
  hang: { wordDelayMs: 2, fault: { kind: "hang" } },
  cut: { wordDelayMs: 5, fault: { kind: "cut", afterWords: FAULT_AFTER_WORDS } },
  unfinished: { wordDelayMs: 5, fault: { kind: "unfinished", afterWords: FAULT_AFTER_WORDS } },
  "error-event": { wordDelayMs: 5, fault: { kind: "error_event", afterWords: FAULT_AFTER_WORDS } },
  /** Works. The whole answer takes longer than `FLAKY_TIMEOUT_MS`, but no single pause does. */
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

/** First-token timeout and idle timeout of the provider `flaky`. */
export const FLAKY_TIMEOUT_MS = 1_500;

/** Returns the text of an answer with this number of words: `w1 w2 w3`. */
export const createNumberedWords = (words: number): string =>
  Array.from({ length: words }, (_, n) => `w${n + 1}`).join(" ");
