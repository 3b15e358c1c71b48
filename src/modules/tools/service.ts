import type { Tool, ToolCall } from "../../ai/provider.ts";
import type { Log } from "../../lib/log.ts";
import { failSpan, type Tracing } from "../../lib/tracing/tracing.ts";
import { type RunnableTool, ToolError, type ToolRequest, type ToolResult } from "./model.ts";

/** Default timeout of a tool call. */
const TOOL_TIMEOUT_MS = 20_000;
/** Maximum number of tools per answer. Providers reject more. */
const TOOLS_MAX = 128;
/** Maximum length of a result, in UTF-16 code units. Longer results are truncated, with a note for the model. */
export const TOOL_RESULT_CHARS_MAX = 20_000;
const QUOTED_ARGUMENTS_CHARS_MAX = 200;

/** The tools of an answer. They don't change during the answer, so that a name always refers to the same tool. */
export interface AnswerTools {
  /** The tool definitions for the model. */
  readonly definitions: readonly Tool[];

  /**
   * Executes a call. It times out after the tool's timeout, or after `remainingMs` if that is shorter. An error, such as a call to an
   * unavailable tool, becomes a result with a message for the model. The promise never rejects.
   */
  call(toolCall: ToolCall, signal: AbortSignal, remainingMs?: number): Promise<ToolResult>;
}

/** Provides the tools of answers. */
export interface ToolService {
  /** Determines the tools that an answer may use. Ignores unknown names, because servers can be removed. */
  selectTools(request: ToolRequest): Promise<AnswerTools>;
}

type Dependencies = {
  /** Lists the available tools. Called for every answer that may use tools. */
  listTools(request: ToolRequest): Promise<RunnableTool[]>;
  log: Log;
  /** Absent or null if tracing is off. */
  tracing?: Tracing | null;
};

export function createToolService({ listTools, log, tracing = null }: Dependencies): ToolService {
  /** Lists the selected tools by name. If several tools have the same name, only the first is used, because providers reject duplicates. */
  async function listSelectedTools(request: ToolRequest): Promise<Map<string, RunnableTool>> {
    const { selection } = request;
    const toolsByName = new Map<string, RunnableTool>();
    if (selection === false) return toolsByName;
    const isSelected = ({ name }: RunnableTool) => selection === true || selection.includes(name);
    const tools = (await listTools(request)).filter(isSelected);
    for (const tool of tools)
      if (!toolsByName.has(tool.name) && toolsByName.size < TOOLS_MAX) toolsByName.set(tool.name, tool);
    if (tools.length > TOOLS_MAX)
      log.warn(
        { tools: tools.length, offered: TOOLS_MAX },
        "more tools than a model can be offered; the last ones are skipped",
      );
    return toolsByName;
  }

  async function runTool(
    tool: RunnableTool | undefined,
    { arguments: argumentsJson }: ToolCall,
    signal: AbortSignal,
    remainingMs: number,
  ) {
    if (!tool) throw new ToolError("This tool is not available.");
    const input = parseArguments(argumentsJson);
    const timeoutMs = Math.min(remainingMs, tool.timeoutMs ?? TOOL_TIMEOUT_MS);
    return withTimeout((toolSignal) => tool.run(input, toolSignal), signal, timeoutMs);
  }

  /** Traces a call, without its arguments and result. */
  function traceCall({ id }: ToolCall, tool: RunnableTool | undefined, work: () => Promise<ToolResult>) {
    if (!tracing) return work();
    // The model may have made up the name, and text from a model must not be recorded.
    const name = tool?.name ?? "unknown";
    const attributes = {
      "gen_ai.operation.name": "execute_tool",
      "gen_ai.tool.name": name,
      "gen_ai.tool.type": "function",
      "gen_ai.tool.call.id": id,
    };
    return tracing.run(`execute_tool ${name}`, { attributes }, async (span) => {
      const result = await work();
      if (result.isError) failSpan(span, "tool_error");
      return result;
    });
  }

  return {
    async selectTools(request) {
      const toolsByName = await listSelectedTools(request);
      return {
        definitions: [...toolsByName.values()].map(({ name, description, parameters }) => ({
          name,
          description,
          parameters,
        })),

        call(toolCall, signal, remainingMs = Number.POSITIVE_INFINITY) {
          const tool = toolsByName.get(toolCall.name);
          return traceCall(toolCall, tool, async () => {
            try {
              const content = toStorableContent(await runTool(tool, toolCall, signal, remainingMs));
              return { content, isError: false };
            } catch (error) {
              if (error instanceof ToolError)
                return { content: `Error: ${toStorableContent(error.message)}`, isError: true };
              if (!signal.aborted) log.warn({ err: error, tool: toolCall.name }, "tool failed");
              return { content: "Error: the tool failed.", isError: true };
            }
          });
        },
      };
    },
  };
}

function parseArguments(text: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new ToolError(`The arguments are not valid JSON: ${text.slice(0, QUOTED_ARGUMENTS_CHARS_MAX)}`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new ToolError("The arguments must be a JSON object.");
  return value as Record<string, unknown>;
}

/** Runs a tool with a timeout. If the tool ignores its signal, its late result is discarded. */
async function withTimeout(
  work: (signal: AbortSignal) => Promise<string>,
  signal: AbortSignal,
  timeoutMs: number,
): Promise<string> {
  const controller = new AbortController();
  const { promise: interrupted, reject } = Promise.withResolvers<never>();
  const interrupt = (error: Error) => {
    reject(error);
    controller.abort();
  };
  const onAbort = () => interrupt(new ToolError("The call was stopped."));
  const timer = setTimeout(
    () => interrupt(new ToolError(`The tool did not respond within ${Math.ceil(timeoutMs / 1000)} seconds.`)),
    timeoutMs,
  );
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    return await Promise.race([work(controller.signal), interrupted]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  }
}

/** Removes characters that Postgres can't store, and truncates the text. */
function toStorableContent(text: string): string {
  const storable = text.replaceAll("\0", "").toWellFormed();
  if (storable.length <= TOOL_RESULT_CHARS_MAX) return storable;
  const note = "\n(The rest was cut off.)";
  return storable.slice(0, TOOL_RESULT_CHARS_MAX - note.length).toWellFormed() + note;
}
