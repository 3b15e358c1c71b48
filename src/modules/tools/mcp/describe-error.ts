import { ToolError } from "../model.ts";

/** UTF-16 units of an error that are logged. */
const SHOWN_CHARS_MAX = 300;
const anyToken = /\beyJ[\w-]+\.[\w-]+\.[\w-]*/g;

/** What the MCP client throws, as far as it is read here; its classes are loaded late. */
type ClientError = { name?: unknown; message?: unknown; code?: unknown; status?: unknown; cause?: ClientError };

const read = (error: unknown): ClientError => (typeof error === "object" && error !== null ? error : {});

/**
 * An error of the MCP client for the log, in one line. Its objects hold whole responses, and servers repeat the headers
 * that they are sent, so anything with the form of a token is hidden.
 */
export function describeError(error: unknown): string {
  const { name, message, code, status, cause } = read(error);
  const origin = cause?.code ?? cause?.message;
  const isTold = typeof message === "string" && message.includes(String(origin));
  const parts = [status && `HTTP ${status}`, code, message ?? name, !isTold && origin];
  const text = [...new Set(parts.filter(Boolean).map(String))].join(": ").replace(/\s+/g, " ");
  return text.replace(anyToken, "********").slice(0, SHOWN_CHARS_MAX).toWellFormed();
}

/** Of a call: `told` is for the model, and null where the server gave no answer that could be told. */
export function describeCallError(error: unknown): { reason: string; told: string | null } {
  const { name, code, message } = read(error);
  const reason = describeError(error);
  if (code === "UNSUPPORTED_RESULT_TYPE")
    return { reason, told: "The tool asks for input, which nobody can give it here." };
  if (name === "ProtocolError" && typeof message === "string") return { reason, told: message };
  return { reason, told: null };
}

/** Whether the server has forgotten the session, and so has carried nothing out. Older servers answer 400. */
export function isSessionGone(error: unknown, hadSession: boolean): boolean {
  const { status, message } = read(error);
  return hadSession && (status === 404 || (status === 400 && /session/i.test(String(message))));
}

/** Whether this caller is refused, which says nothing of others. */
export function refusesUser(error: unknown): boolean {
  const { status } = read(error);
  return status === 401 || status === 403;
}

/** Whether a request was refused here, before it was sent. The MCP client wraps what its fetch throws. */
export function isOurs(error: unknown): boolean {
  return error instanceof ToolError || (error instanceof Error && error.cause !== undefined && isOurs(error.cause));
}

/** Whether the connection is sound all the same: the server has answered with an error, or is slow. */
export function isAnswer(error: unknown): boolean {
  const { name, code } = read(error);
  return name === "ProtocolError" || code === "REQUEST_TIMEOUT";
}
