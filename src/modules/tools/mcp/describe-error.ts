import { ToolError } from "../model.ts";

/** Maximum length of a logged error, in UTF-16 units. */
const LOGGED_CHARS_MAX = 300;
const anyToken = /\beyJ[\w-]+\.[\w-]+\.[\w-]*/g;

/**
 * The fields that are read from the MCP client's errors. Its classes can't be used, because the client is loaded on
 * demand.
 */
type ClientError = { name?: unknown; message?: unknown; code?: unknown; status?: unknown; cause?: ClientError };

const readFields = (error: unknown): ClientError => (typeof error === "object" && error !== null ? error : {});

/**
 * Formats an error of the MCP client as one log line. Its objects contain whole responses, and servers may echo request
 * headers, so anything that looks like a token is masked.
 */
export function describeError(error: unknown): string {
  const { name, message, code, status, cause } = readFields(error);
  const origin = cause?.code ?? cause?.message;
  const containsOrigin = typeof message === "string" && message.includes(String(origin));
  const parts = [status && `HTTP ${status}`, code, message ?? name, !containsOrigin && origin];
  const text = [...new Set(parts.filter(Boolean).map(String))].join(": ").replace(/\s+/g, " ");
  return text.replace(anyToken, "********").slice(0, LOGGED_CHARS_MAX).toWellFormed();
}

/** Describes the error of a call. `detail` is the message for the model; null if the server didn't send one. */
export function describeCallError(error: unknown): { reason: string; detail: string | null } {
  const { name, code, message } = readFields(error);
  const reason = describeError(error);
  if (code === "UNSUPPORTED_RESULT_TYPE")
    return { reason, detail: "The tool requested user input, which is not supported here." };
  if (name === "ProtocolError" && typeof message === "string") return { reason, detail: message };
  return { reason, detail: null };
}

/** Whether the server has lost the session, and therefore hasn't executed anything. Older servers respond with 400. */
export function isSessionGone(error: unknown, hadSession: boolean): boolean {
  const { status, message } = readFields(error);
  return hadSession && (status === 404 || (status === 400 && /session/i.test(String(message))));
}

/** Whether the server rejected this user. It may still accept others. */
export function isUserRejected(error: unknown): boolean {
  const { status } = readFields(error);
  return status === 401 || status === 403;
}

/** Whether Parley refused to send the request. The MCP client wraps errors thrown by its fetch. */
export function isRefusedLocally(error: unknown): boolean {
  return (
    error instanceof ToolError || (error instanceof Error && error.cause !== undefined && isRefusedLocally(error.cause))
  );
}

/** Whether the connection is usable despite the error: the server responded with an error, or is slow. */
export function isConnectionUsable(error: unknown): boolean {
  const { name, code } = readFields(error);
  return name === "ProtocolError" || code === "REQUEST_TIMEOUT";
}
