import type { Tool } from "../../ai/provider.ts";

/** A tool that Parley runs for an answer. */
export type RunnableTool = Tool & {
  /** Timeout of a call. If absent, the default applies. */
  timeoutMs?: number;
  /** Returns text for the model. @throws ToolError with a message for the model. Other errors are only logged. */
  run(input: Record<string, unknown>, signal: AbortSignal): Promise<string>;
};

/** Selects the tools that an answer may use. */
export type ToolRequest = {
  /** True for all tools, false for none, or the names of tools. */
  selection: boolean | readonly string[];
  /** The user who requested the answer; null if it wasn't a user. */
  userId: string | null;
  /** Aborted when the answer is stopped. */
  signal: AbortSignal;
};

/** A failed call. The message is sent to the model. */
export class ToolError extends Error {}

export type ToolResult = { content: string; isError: boolean };
