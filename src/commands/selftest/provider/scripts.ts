/** How a model fails. Words are counted from 1. */
export type Fault =
  /** An HTTP error instead of an answer. */
  | { kind: "status"; status: number; retryAfterS?: number }
  /** Headers, but never a token. */
  | { kind: "hang" }
  /** The connection breaks after so many words. */
  | { kind: "cut"; afterWords: number }
  /** The stream ends properly after so many words, but without its end marker. */
  | { kind: "unfinished"; afterWords: number }
  /** An error event in a stream that began with status 200. */
  | { kind: "error_event"; afterWords: number };

export type Script = {
  wordDelayMs: number;
  /** Speed when it continues an answer that broke off. */
  resumedDelayMs?: number;
  fault?: Fault;
  /** How many requests fail before it works; absent: all. */
  faults?: number;
};

/** Words of an answer. All models write the same text, so that one can finish what another began. */
export const SHORT_WORDS = 60;
/** At `LONG_DELAY_MS` a word, it takes longer than any check, unless another run finishes it. */
export const LONG_WORDS = 900;
const LONG_DELAY_MS = 50;
const RESUMED_DELAY_MS = 1;
const FAULTY_AFTER_WORDS = 20;

/** `Retry-After` of a model that is worth waiting for, and of one that isn't. */
export const SHORT_RETRY_S = 1;
const LONG_RETRY_S = 60;

/** The models of the provider `flaky`, which fail. */
export const flakyModels = {
  "error-500": { wordDelayMs: 2, fault: { kind: "status", status: 500 } },
  "error-429": { wordDelayMs: 2, fault: { kind: "status", status: 429, retryAfterS: LONG_RETRY_S } },
  "busy-once": { wordDelayMs: 2, fault: { kind: "status", status: 429, retryAfterS: SHORT_RETRY_S }, faults: 1 },
  hang: { wordDelayMs: 2, fault: { kind: "hang" } },
  cut: { wordDelayMs: 5, fault: { kind: "cut", afterWords: FAULTY_AFTER_WORDS } },
  unfinished: { wordDelayMs: 5, fault: { kind: "unfinished", afterWords: FAULTY_AFTER_WORDS } },
  "error-event": { wordDelayMs: 5, fault: { kind: "error_event", afterWords: FAULTY_AFTER_WORDS } },
  /** Not a failure: it takes longer than the limits below, but is never silent for so long. */
  slow: { wordDelayMs: 60 },
} satisfies Record<string, Script>;

/** The models of the provider `steady`, which work. */
const steadyModels = {
  short: { wordDelayMs: 2 },
  long: { wordDelayMs: LONG_DELAY_MS, resumedDelayMs: RESUMED_DELAY_MS },
} satisfies Record<string, Script>;

export const scripts: Record<string, Script> = { ...flakyModels, ...steadyModels };

export const SHORT_MODEL = "steady/short";
export const LONG_MODEL = "steady/long";

/** Time limit for the first token of the provider `flaky`, and for silence after it. */
export const FLAKY_SILENCE_MS = 1_500;

/** The text of an answer with so many words: `w1 w2 w3`. */
export const writeText = (words: number): string => Array.from({ length: words }, (_, n) => `w${n + 1}`).join(" ");
