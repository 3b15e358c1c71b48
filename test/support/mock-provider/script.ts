import type { ThinkingFormat } from "./thinking.ts";

/** An injected fault. */
type Fault =
  /** An HTTP error with `status`, and with `Retry-After` if `retryAfter` is set. */
  | "status"
  /** The connection is closed without a response. */
  | "refuse"
  /** The request is accepted, but there is no response, not even headers. */
  | "no_headers"
  /** The headers and the first events are sent, but no token follows. */
  | "no_first_token"
  /** The stream stalls after `piecesBeforeFault` pieces, with the connection open. */
  | "stall"
  /** The connection breaks after `piecesBeforeFault` pieces. */
  | "cut"
  /** An error event is sent after `piecesBeforeFault` pieces. */
  | "error_event"
  /** The body ends normally after `piecesBeforeFault` pieces, but without the end marker. */
  | "no_end_marker"
  /** The connection breaks after `piecesBeforeFault` pieces and the beginning of a tool call. */
  | "tool_call_cut"
  /** The response is HTTP 200 with a web page. */
  | "html"
  /** After `piecesBeforeFault` pieces, an event with data that is not JSON is sent. */
  | "not_json"
  /** Endless comment lines are sent instead of events. */
  | "comment_storm"
  /** An endless line is sent. */
  | "endless_line";

/** A tool call of a scripted model. Its arguments are sent unchanged, even if they are not JSON. */
export type ScriptedCall = { name: string; arguments: string };

/** How the mock provider responds to a request. */
export type Script = {
  pieces: string[];
  /** Tool calls after the pieces, at the end of the answer. */
  toolCalls: ScriptedCall[];
  firstDelayMs: number;
  pieceDelayMs: number;
  fault: Fault | null;
  /** The number of pieces before a mid-stream fault. */
  piecesBeforeFault: number;
  /** The number of requests for this model that fail. Later requests succeed. */
  faultCount: number;
  status: number;
  retryAfter: string | null;
  /** The number of thinking pieces before the first token, or their texts. They are `pieceDelayMs` apart. */
  thinking: number | string[];
  /** A promise to wait for between the thinking and the first token. */
  thinkUntil: Promise<unknown> | null;
  /** The format of the thinking. Later requests that don't send the thinking back are refused. */
  thinkingFormat: ThinkingFormat | null;
  /** Whether each byte of the body is sent separately, so that multi-byte characters are split. */
  splitBytes: boolean;
  finishReason: "stop" | "length" | "content_filter";
  /** Whether the provider reports the token usage. */
  reportsUsage: boolean;
  /** Whether `[DONE]` is sent, in Chat Completions only. */
  sendsDone: boolean;
  /** Whether the connection stays open after the last event. */
  keepsConnectionOpen: boolean;
  /** Whether requests that require an answer format are refused with status 400. */
  rejectsFormats: boolean;
  /** A recorded response body. It replaces all other settings except `splitBytes`. */
  recording: string | null;
};

const defaultPieces = ["Parley's ", "provider ", "answers ", "in ", "several ", "pieces."];

/** Splits text after white space into pieces that resemble tokens. */
const splitIntoPieces = (text: string): string[] => text.match(/\S*\s*/g)?.filter((piece) => piece !== "") ?? [];

/** Creates a script with defaults for the fields that a test doesn't set. */
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
    piecesBeforeFault: Math.ceil(pieces.length / 2),
    faultCount: Number.POSITIVE_INFINITY,
    status: 500,
    retryAfter: null,
    thinking: 0,
    thinkUntil: null,
    thinkingFormat: null,
    splitBytes: false,
    finishReason: "stop",
    reportsUsage: true,
    sendsDone: true,
    keepsConnectionOpen: false,
    rejectsFormats: false,
    recording: null,
    ...rest,
  };
}

const BIG_DELTA_LENGTH = 5 * 1024 * 1024;

/** Scripts by model name. With `AI_MODELS`, a test can select them for an executable in another process. */
const namedScripts: Record<string, Partial<Script> & { text?: string }> = {
  slow: { pieceDelayMs: 200 },
  "rate-limited": { fault: "status", status: 429, retryAfter: "1" },
  "rate-limited-once": { fault: "status", status: 429, retryAfter: "1", faultCount: 1 },
  "rate-limited-long": { fault: "status", status: 429, retryAfter: "3600" },
  fails: { fault: "status", status: 500 },
  "fails-twice": { fault: "status", status: 500, faultCount: 2 },
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
 * Parses a model name into a script. The name can be one of the names above, followed by settings, as in
 * `stall?after=3&times=1` or `any?pieces=50&delay_ms=10`. Models with other names succeed.
 */
export function parseModelName(model: string): Script {
  const [name = "", query = ""] = model.split("?", 2);
  const parts: Partial<Script> & { text?: string } = { ...namedScripts[name] };
  const settings = new URLSearchParams(query);
  const parseNumberSetting = (key: string) => (settings.has(key) ? Number(settings.get(key)) : undefined);
  const pieces = parseNumberSetting("pieces");
  if (pieces !== undefined) parts.pieces = Array.from({ length: pieces }, (_, index) => `word${index} `);
  const text = settings.get("text");
  if (text !== null) parts.text = text;
  parts.pieceDelayMs = parseNumberSetting("delay_ms") ?? parts.pieceDelayMs ?? 0;
  parts.firstDelayMs = parseNumberSetting("first_delay_ms") ?? parts.firstDelayMs ?? 0;
  parts.status = parseNumberSetting("status") ?? parts.status ?? 500;
  parts.faultCount = parseNumberSetting("times") ?? parts.faultCount ?? Number.POSITIVE_INFINITY;
  parts.thinking = parseNumberSetting("thinking") ?? parts.thinking ?? 0;
  const after = parseNumberSetting("after");
  if (after !== undefined) parts.piecesBeforeFault = after;
  const fault = settings.get("fault");
  if (fault !== null) parts.fault = fault as Fault;
  const retryAfter = settings.get("retry_after");
  if (retryAfter !== null) parts.retryAfter = retryAfter;
  return createScript(parts);
}
