import type { Tool } from "../../ai/provider.ts";

/** A tool that runs here, on behalf of a conversation. */
export type RunnableTool = Tool & {
  /**
   * @returns text for the model.
   * @throws ToolError with a sentence that the model is told; anything else stays in the log.
   */
  run(input: Record<string, unknown>, signal: AbortSignal): Promise<string>;
};

/** What went wrong in a call, in words for the model: it may try again in another way. */
export class ToolError extends Error {}

export type ToolResult = { content: string; isError: boolean };
