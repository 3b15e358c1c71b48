import type { ThinkingFormat } from "./thinking.ts";

/** An injected fault. */
type Fault =
  /** An HTTP error with `status`, and with `Retry-After` if `retryAfter` is set. */
  | "status"
  /** The connection is reset without a response. */
  | "connection_reset"
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
  /** The thinking pieces before the first token, or their number. They are sent `pieceDelayMs` apart. */
  thinking: number | string[];
  /** A promise to wait for between the thinking and the first token. */
  thinkUntil: Promise<unknown> | null;
  /** The format of the thinking. Later requests that don't send the thinking back are rejected. */
  thinkingFormat: ThinkingFormat | null;
  /** Whether each byte of the body is sent separately, so that multi-byte characters are split. */
  splitBytes: boolean;
  finishReason: "stop" | "length" | "content_filter";
  /** Whether the provider reports the token usage. */
  reportUsage: boolean;
  /** Whether `[DONE]` is sent. Only Chat Completions has this end marker. */
  sendDone: boolean;
  /** Whether the connection stays open after the last event. */
  keepConnectionOpen: boolean;
  /** Whether requests that require an answer format are rejected with status 400. */
  rejectFormats: boolean;
  /** A recorded response body. It replaces all other settings except `splitBytes`. */
  recording: string | null;
};

const defaultPieces = ["Parley's ", "provider ", "answers ", "in ", "several ", "pieces."];

/** Splits text after white space into pieces that resemble tokens. */
const splitIntoPieces = (text: string): string[] => text.match(/\S*\s*/g)?.filter((piece) => piece !== "") ?? [];

/** Creates a script with defaults for the fields that a test doesn't set. */
export function createScript(options: Partial<Script> & { text?: string } = {}): Script {
  const { text, ...overrides } = options;
  const hasCalls = (overrides.toolCalls ?? []).length > 0;
  const pieces = overrides.pieces ?? (text !== undefined ? splitIntoPieces(text) : hasCalls ? [] : defaultPieces);
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
    reportUsage: true,
    sendDone: true,
    keepConnectionOpen: false,
    rejectFormats: false,
    recording: null,
    ...overrides,
  };
}

const BIG_DELTA_CHARS = 5 * 1024 * 1024;

/** Scripts by model name. A test that starts Parley as a separate process can select them with `AI_MODELS`. */
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
  "connection-reset": { fault: "connection_reset" },
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
  "big-delta": { pieces: ["x".repeat(BIG_DELTA_CHARS)] },
};

/**
 * Creates the script for a model name. The name can be one of `namedScripts`, followed by settings, as in
 * `stall?after=3&times=1` or `any?pieces=50&delay_ms=10`. Models with other names succeed.
 */
export function parseModelName(model: string): Script {
  const [name = "", query = ""] = model.split("?", 2);
  const overrides: Partial<Script> & { text?: string } = { ...namedScripts[name] };
  const settings = new URLSearchParams(query);
  const parseNumberSetting = (key: string) => (settings.has(key) ? Number(settings.get(key)) : undefined);
  const pieces = parseNumberSetting("pieces");
  if (pieces !== undefined) overrides.pieces = Array.from({ length: pieces }, (_, index) => `word${index} `);
  const text = settings.get("text");
  if (text !== null) overrides.text = text;
  overrides.pieceDelayMs = parseNumberSetting("delay_ms") ?? overrides.pieceDelayMs ?? 0;
  overrides.firstDelayMs = parseNumberSetting("first_delay_ms") ?? overrides.firstDelayMs ?? 0;
  overrides.status = parseNumberSetting("status") ?? overrides.status ?? 500;
  overrides.faultCount = parseNumberSetting("times") ?? overrides.faultCount ?? Number.POSITIVE_INFINITY;
  overrides.thinking = parseNumberSetting("thinking") ?? overrides.thinking ?? 0;
  const piecesBeforeFault = parseNumberSetting("after");
  if (piecesBeforeFault !== undefined) overrides.piecesBeforeFault = piecesBeforeFault;
  const fault = settings.get("fault");
  if (fault !== null) overrides.fault = fault as Fault;
  const retryAfter = settings.get("retry_after");
  if (retryAfter !== null) overrides.retryAfter = retryAfter;
  return createScript(overrides);
}
