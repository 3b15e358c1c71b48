import type { Tool } from "../../ai/provider.ts";

/** A tool that runs here, on behalf of a conversation. */
export type RunnableTool = Tool & {
  /** The longest time of one call, in milliseconds; absent: the service's own. */
  timeoutMs?: number;
  /**
   * @returns text for the model.
   * @throws ToolError with a sentence that the model is told; anything else stays in the log.
   */
  run(input: Record<string, unknown>, signal: AbortSignal): Promise<string>;
};

/** What an answer may use. */
export type ToolRequest = {
  /** All tools, none, or those with these names. */
  chosen: boolean | readonly string[];
  /** Who asked for the answer; null: nobody who has an account here. */
  userId: string | null;
  /** Aborts when the answer is stopped. */
  signal: AbortSignal;
};

/** What went wrong in a call, in words for the model: it may try again in another way. */
export class ToolError extends Error {}

export type ToolResult = { content: string; isError: boolean };
