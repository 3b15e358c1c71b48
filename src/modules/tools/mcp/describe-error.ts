import { ToolError } from "../model.ts";

/** Maximum length of a logged error, in UTF-16 code units. */
const LOGGED_CHARS_MAX = 300;
const TOKEN = /\beyJ[\w-]+\.[\w-]+\.[\w-]*/g;

/**
 * The fields of the MCP client's errors. Their classes can't be used here, because the client is loaded on demand.
 */
type ClientError = { name?: unknown; message?: unknown; code?: unknown; status?: unknown; cause?: ClientError };

const getFields = (error: unknown): ClientError => (typeof error === "object" && error !== null ? error : {});

/**
 * Formats an error of the MCP client as one log line. Masks everything that looks like a token, because the error may contain the
 * server's response, and servers may echo request headers.
 */
export function describeError(error: unknown): string {
  const { name, message, code, status, cause } = getFields(error);
  const causeText = cause?.code ?? cause?.message;
  const containsCause = typeof message === "string" && message.includes(String(causeText));
  const parts = [status && `HTTP ${status}`, code, message ?? name, !containsCause && causeText];
  const text = [...new Set(parts.filter(Boolean).map(String))].join(": ").replace(/\s+/g, " ");
  return text.replace(TOKEN, "********").slice(0, LOGGED_CHARS_MAX).toWellFormed();
}

/** Describes the error of a call. `detail` is the server's message for the model; null if there is none. */
export function describeCallError(error: unknown): { reason: string; detail: string | null } {
  const { name, code, message } = getFields(error);
  const reason = describeError(error);
  if (code === "UNSUPPORTED_RESULT_TYPE")
    return { reason, detail: "The tool requested user input, which is not supported here." };
  if (name === "ProtocolError" && typeof message === "string") return { reason, detail: message };
  return { reason, detail: null };
}

/** Returns whether the server has lost the session, and so has not executed the call. Older servers respond with 400. */
export function isSessionLost(error: unknown, hadSession: boolean): boolean {
  const { status, message } = getFields(error);
  return hadSession && (status === 404 || (status === 400 && /session/i.test(String(message))));
}

/** Returns whether the server rejected this user. It may accept other users. */
export function isUserRejected(error: unknown): boolean {
  const { status } = getFields(error);
  return status === 401 || status === 403;
}

/** Returns whether Parley refused to send the request. The MCP client wraps the errors that its fetch throws. */
export function isRefusedLocally(error: unknown): boolean {
  return (
    error instanceof ToolError || (error instanceof Error && error.cause !== undefined && isRefusedLocally(error.cause))
  );
}

/** Returns whether the connection remains usable: the server responded with an error, or is slow. */
export function isConnectionUsable(error: unknown): boolean {
  const { name, code } = getFields(error);
  return name === "ProtocolError" || code === "REQUEST_TIMEOUT";
}
