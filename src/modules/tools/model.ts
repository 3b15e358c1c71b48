import type { Tool } from "../../ai/provider.ts";

/** A tool that runs on this server, on behalf of a conversation. */
export type RunnableTool = Tool & {
  /** Time limit of one call, in milliseconds; absent: the service's default. */
  timeoutMs?: number;
  /**
   * @returns text for the model.
   * @throws ToolError with a sentence for the model; other errors are only logged.
   */
  run(input: Record<string, unknown>, signal: AbortSignal): Promise<string>;
};

/** Which tools an answer may use. */
export type ToolRequest = {
  /** All tools, none, or these names. */
  chosen: boolean | readonly string[];
  /** The user who requested the answer; null: no user account. */
  userId: string | null;
  /** Aborts when the answer is stopped. */
  signal: AbortSignal;
};

/** A failed call, in words for the model, which may try again differently. */
export class ToolError extends Error {}

export type ToolResult = { content: string; isError: boolean };
