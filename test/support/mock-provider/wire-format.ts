import type { Script, ScriptedCall } from "./script.ts";

/** A request that the mock provider received. */
export type ReceivedRequest = {
  receivedAtMs: number;
  path: string;
  model: string;
  /** The client's port, which identifies its connection. */
  clientPort: number;
  headers: Record<string, string>;
  body: Record<string, unknown>;
  /** Whether the client disconnected before the end of the response. */
  wasAborted: boolean;
};

export type AnswerContext = { id: string; model: string; script: Script; body: Record<string, unknown> };

/** A scripted call with its id and its index in the answer. */
type NumberedCall = ScriptedCall & { index: number; id: string };

/** Splits a call's arguments into two pieces, which are streamed separately. */
export const splitArguments = (text: string): string[] => {
  const middle = Math.ceil(text.length / 2);
  return [text.slice(0, middle), text.slice(middle)].filter((piece) => piece !== "");
};

type TokenCount = { input: number; output: number };

/** One provider's API format. The `format…` functions return complete server-sent events. */
export type WireFormat = {
  path: string;
  /** Returns the error message of the real provider's 400 response, or null if the provider would accept the request. */
  findRequestError(body: Record<string, unknown>, headers: Record<string, string>): string | null;
  hasKey(headers: Record<string, string>): boolean;
  createErrorBody(status: number, message: string): unknown;
  formatStart(context: AnswerContext): string;
  formatThinkingDelta(context: AnswerContext, text: string): string;
  /** Formats the thinking that later requests must send back (`Script.thinkingFormat`). It is sent before the text. */
  formatRequiredThinking(context: AnswerContext): string;
  formatTextDelta(context: AnswerContext, text: string): string;
  /** Formats a tool call. If `isComplete` is false, formats only its beginning. */
  formatToolCall(context: AnswerContext, call: NumberedCall, isComplete: boolean): string;
  formatErrorEvent(context: AnswerContext): string;
  formatEnd(context: AnswerContext, text: string, tokens: TokenCount): string;
};

/** Formats a server-sent event. */
export const formatSse = (event: string | null, data: unknown): string =>
  `${event === null ? "" : `event: ${event}\n`}data: ${typeof data === "string" ? data : JSON.stringify(data)}\n\n`;

/** A string in error messages that must never reach a client. Tests search for it. */
export const PROVIDER_INTERNAL_TEXT = "provider-internal-detail";

export const hasBearer = (headers: Record<string, string>): boolean => /^Bearer \S+$/.test(headers.authorization ?? "");

const errorTypes: Record<number, string> = {
  400: "invalid_request_error",
  401: "authentication_error",
  403: "permission_error",
  404: "not_found_error",
  408: "timeout_error",
  429: "rate_limit_error",
  529: "overloaded_error",
};

export const getErrorType = (status: number): string => errorTypes[status] ?? "api_error";
