import { ToolError } from "../model.ts";

/** Length of a logged error, in UTF-16 units. */
const SHOWN_CHARS_MAX = 300;
const anyToken = /\beyJ[\w-]+\.[\w-]+\.[\w-]*/g;

/** The fields read of the MCP client's errors; its classes are loaded later. */
type ClientError = { name?: unknown; message?: unknown; code?: unknown; status?: unknown; cause?: ClientError };

const read = (error: unknown): ClientError => (typeof error === "object" && error !== null ? error : {});

/**
 * Formats an error of the MCP client as one log line. Its objects contain whole responses, and servers may echo request
 * headers, so anything that looks like a token is hidden.
 */
export function describeError(error: unknown): string {
  const { name, message, code, status, cause } = read(error);
  const origin = cause?.code ?? cause?.message;
  const containsOrigin = typeof message === "string" && message.includes(String(origin));
  const parts = [status && `HTTP ${status}`, code, message ?? name, !containsOrigin && origin];
  const text = [...new Set(parts.filter(Boolean).map(String))].join(": ").replace(/\s+/g, " ");
  return text.replace(anyToken, "********").slice(0, SHOWN_CHARS_MAX).toWellFormed();
}

/** Describes the error of a call. `detail` is for the model; null if the server sent no usable error. */
export function describeCallError(error: unknown): { reason: string; detail: string | null } {
  const { name, code, message } = read(error);
  const reason = describeError(error);
  if (code === "UNSUPPORTED_RESULT_TYPE")
    return { reason, detail: "The tool requested user input, which is not supported here." };
  if (name === "ProtocolError" && typeof message === "string") return { reason, detail: message };
  return { reason, detail: null };
}

/** Whether the server has lost the session and so executed nothing. Older servers respond with 400. */
export function isSessionGone(error: unknown, hadSession: boolean): boolean {
  const { status, message } = read(error);
  return hadSession && (status === 404 || (status === 400 && /session/i.test(String(message))));
}

/** Whether only this user is rejected, which says nothing about others. */
export function refusesUser(error: unknown): boolean {
  const { status } = read(error);
  return status === 401 || status === 403;
}

/** Whether Parley itself refused to send the request. The MCP client wraps errors of its fetch. */
export function isOwnError(error: unknown): boolean {
  return error instanceof ToolError || (error instanceof Error && error.cause !== undefined && isOwnError(error.cause));
}

/** Whether the connection is fine anyway: the server responded with an error, or is slow. */
export function isServerResponse(error: unknown): boolean {
  const { name, code } = read(error);
  return name === "ProtocolError" || code === "REQUEST_TIMEOUT";
}
