import type { ThinkingFormat } from "./thoughts.ts";

/** The fault of a scripted answer. */
type Fault =
  /** An HTTP error with `status`, and with `Retry-After` if `retryAfter` is set. */
  | "status"
  /** The connection is closed without a byte of a response. */
  | "refuse"
  /** The request is accepted, but there is no response, not even headers. */
  | "no_headers"
  /** Headers and the opening events, but never a token. */
  | "no_first_token"
  /** `after` pieces, then silence with the connection open. */
  | "stall"
  /** `after` pieces, then the connection breaks. */
  | "cut"
  /** `after` pieces, then an error event inside the stream of HTTP 200. */
  | "error_event"
  /** `after` pieces, then a regular end of the body without the end marker. */
  | "no_end_marker"
  /** `after` pieces, then the beginning of a tool call, then the connection breaks. */
  | "tool_call_cut"
  /** HTTP 200 with a web page. */
  | "html"
  /** HTTP 200 with an event whose data is not JSON. */
  | "not_json"
  /** Endless comment lines instead of events, as fast as they are read. */
  | "comment_storm"
  /** An endless line, as fast as it is read. */
  | "endless_line";

/** A tool call of a scripted model; its arguments are sent unchanged, JSON or not. */
export type ScriptedCall = { name: string; arguments: string };

/** How the mock server answers one request. */
export type Script = {
  pieces: string[];
  /** Tool calls after the pieces; the answer then ends with them. */
  toolCalls: ScriptedCall[];
  firstDelayMs: number;
  pieceDelayMs: number;
  fault: Fault | null;
  /** Pieces sent before a fault in mid-stream. */
  after: number;
  /** How many requests of this model get the fault; later ones are answered normally. */
  times: number;
  status: number;
  retryAfter: string | null;
  /** Reasoning before the first token, `pieceDelayMs` apart: this many pieces, or these texts. */
  thinking: number | string[];
  /** A promise awaited between the reasoning and the first token; only within this process. */
  thinkUntil: Promise<unknown> | null;
  /** The format of its thinking; requests that do not return it are refused. */
  thought: ThinkingFormat | null;
  /** Every byte of the body is sent separately, so that every multi-byte character is split. */
  splitBytes: boolean;
  finish: "stop" | "length" | "content_filter";
  /** Whether the provider reports tokens at all. */
  usage: boolean;
  /** Chat Completions only: whether `[DONE]` is sent. */
  done: boolean;
  /** Keeps the connection open after the last event. */
  hold: boolean;
  /** Refuses every required answer format with status 400. */
  refusesFormats: boolean;
  /** The recorded body of a provider's answer, which replaces all of the above except `splitBytes`. */
  recording: string | null;
};

const defaultPieces = ["Parley's ", "provider ", "answers ", "in ", "several ", "pieces."];

/** Splits a text into pieces that end after white space, roughly like tokens. */
const splitIntoPieces = (text: string): string[] => text.match(/\S*\s*/g)?.filter((piece) => piece !== "") ?? [];

/** A complete script from the parts that matter to a test. */
export function createScript(parts: Partial<Script> & { text?: string } = {}): Script {
  const { text, ...rest } = parts;
  const hasCalls = (rest.toolCalls ?? []).length > 0;
  const pieces = rest.pieces ?? (text !== undefined ? splitIntoPieces(text) : hasCalls ? [] : defaultPieces);
  return {
    pieces,
    toolCalls: [],
    firstDelayMs: 0,
    pieceDelayMs: 0,
    fault: null,
    after: Math.ceil(pieces.length / 2),
    times: Number.POSITIVE_INFINITY,
    status: 500,
    retryAfter: null,
    thinking: 0,
    thinkUntil: null,
    thought: null,
    splitBytes: false,
    finish: "stop",
    usage: true,
    done: true,
    hold: false,
    refusesFormats: false,
    recording: null,
    ...rest,
  };
}

const BIG_DELTA_LENGTH = 5 * 1024 * 1024;

/** Models whose name is a script, so that `AI_MODELS` alone can control an executable in another process. */
const namedScripts: Record<string, Partial<Script> & { text?: string }> = {
  slow: { pieceDelayMs: 200 },
  "rate-limited": { fault: "status", status: 429, retryAfter: "1" },
  "rate-limited-once": { fault: "status", status: 429, retryAfter: "1", times: 1 },
  "rate-limited-long": { fault: "status", status: 429, retryAfter: "3600" },
  fails: { fault: "status", status: 500 },
  "fails-twice": { fault: "status", status: 500, times: 2 },
  overloaded: { fault: "status", status: 529 },
  unauthorized: { fault: "status", status: 401 },
  refused: { fault: "status", status: 400 },
  refuse: { fault: "refuse" },
  "no-headers": { fault: "no_headers" },
  "no-first-token": { fault: "no_first_token" },
  stall: { fault: "stall" },
  cut: { fault: "cut" },
  "error-event": { fault: "error_event" },
  "no-end-marker": { fault: "no_end_marker" },
  "tool-call-cut": { fault: "tool_call_cut" },
  html: { fault: "html" },
  "not-json": { fault: "not_json" },
  "comment-storm": { fault: "comment_storm" },
  "endless-line": { fault: "endless_line" },
  "split-bytes": { text: "Grüße, 世界 — 👩‍👩‍👧 und 🚀 Ende.", splitBytes: true },
  "big-delta": { pieces: ["x".repeat(BIG_DELTA_LENGTH)] },
};

/**
 * The script for a model's name: one of the names above, and any number of settings after `?`, as in
 * `stall?after=3&times=1` or `any?pieces=50&delay_ms=10`. Every other name answers normally.
 */
export function parseModelName(model: string): Script {
  const [name = "", query = ""] = model.split("?", 2);
  const parts: Partial<Script> & { text?: string } = { ...namedScripts[name] };
  const settings = new URLSearchParams(query);
  const number = (key: string) => (settings.has(key) ? Number(settings.get(key)) : undefined);
  const pieces = number("pieces");
  if (pieces !== undefined) parts.pieces = Array.from({ length: pieces }, (_, index) => `word${index} `);
  const text = settings.get("text");
  if (text !== null) parts.text = text;
  parts.pieceDelayMs = number("delay_ms") ?? parts.pieceDelayMs ?? 0;
  parts.firstDelayMs = number("first_delay_ms") ?? parts.firstDelayMs ?? 0;
  parts.status = number("status") ?? parts.status ?? 500;
  parts.times = number("times") ?? parts.times ?? Number.POSITIVE_INFINITY;
  parts.thinking = number("thinking") ?? parts.thinking ?? 0;
  const after = number("after");
  if (after !== undefined) parts.after = after;
  const fault = settings.get("fault");
  if (fault !== null) parts.fault = fault as Fault;
  const retryAfter = settings.get("retry_after");
  if (retryAfter !== null) parts.retryAfter = retryAfter;
  return createScript(parts);
}
