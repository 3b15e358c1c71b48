import type { Script, ScriptedCall } from "./script.ts";

/** One request as the mock server saw it. */
export type SeenRequest = {
  at: number;
  path: string;
  model: string;
  /** The client's port, which is the same for requests over the same connection. */
  clientPort: number;
  headers: Record<string, string>;
  body: Record<string, unknown>;
  /** Whether the client disconnected before the answer ended. */
  aborted: boolean;
};

export type AnswerContext = { id: string; model: string; script: Script; body: Record<string, unknown> };

/** A scripted call with its index in the answer and its id. */
type NumberedCall = ScriptedCall & { index: number; id: string };

/** The arguments as they are streamed. */
export const splitArguments = (text: string): string[] => {
  const middle = Math.ceil(text.length / 2);
  return [text.slice(0, middle), text.slice(middle)].filter((piece) => piece !== "");
};

type TokenCount = { input: number; output: number };

/** One provider's encoding of the common parts. Every string is a ready piece of the event stream. */
export type WireFormat = {
  path: string;
  /** Why the real provider would return 400, or null. */
  findMistake(body: Record<string, unknown>, headers: Record<string, string>): string | null;
  hasKey(headers: Record<string, string>): boolean;
  errorBody(status: number, message: string): unknown;
  open(context: AnswerContext): string;
  thinking(context: AnswerContext, text: string): string;
  /** The thinking of a script with a `thought`, before its pieces. */
  thought(context: AnswerContext): string;
  delta(context: AnswerContext, text: string): string;
  /** The start of a call, and, if it `isWhole`, also its arguments, in two pieces. */
  toolCall(context: AnswerContext, call: NumberedCall, isWhole: boolean): string;
  errorEvent(context: AnswerContext): string;
  close(context: AnswerContext, text: string, tokens: TokenCount): string;
};

/** One server-sent event. */
export const sse = (event: string | null, data: unknown): string =>
  `${event === null ? "" : `event: ${event}\n`}data: ${typeof data === "string" ? data : JSON.stringify(data)}\n\n`;

/** Text that must never reach a client: tests search for it. */
export const FOREIGN_TEXT = "provider-internal-detail";

export const hasBearer = (headers: Record<string, string>): boolean => /^Bearer \S+$/.test(headers.authorization ?? "");

const knownTypes: Record<number, string> = {
  400: "invalid_request_error",
  401: "authentication_error",
  403: "permission_error",
  404: "not_found_error",
  408: "timeout_error",
  429: "rate_limit_error",
  529: "overloaded_error",
};

export const errorType = (status: number): string => knownTypes[status] ?? "api_error";
