import type { Tool, ToolCall } from "../../ai/provider.ts";
import type { Log } from "../../lib/log.ts";
import { failSpan, type Tracing } from "../../lib/tracing/tracing.ts";
import { type RunnableTool, ToolError, type ToolRequest, type ToolResult } from "./model.ts";

/** Default time limit of one call. */
const TOOL_TIMEOUT_MS = 20_000;
/** Tools per answer: providers reject more. */
const TOOLS_MAX = 128;
/** Maximum length of a result, in UTF-16 units; a longer one is cut, with a note for the model. */
export const TOOL_RESULT_CHARS_MAX = 20_000;
const SHOWN_ARGUMENTS_CHARS_MAX = 200;

/** The tools of one answer, fixed at its start: a name refers to the same tool until its end. */
export interface AnswerTools {
  /** The tool definitions for the model. */
  readonly definitions: readonly Tool[];

  /**
   * Executes a call within the tool's time limit, or `leftMs` (milliseconds) if that is less. Errors are results too, worded
   * for the model, including calls of tools that the answer may not use. Never rejects.
   */
  call(call: ToolCall, signal: AbortSignal, leftMs?: number): Promise<ToolResult>;
}

/** The tools of conversations, and their execution. */
export interface ToolService {
  /** The tools that an answer may use. Unknown names are ignored, because servers may disappear. */
  open(request: ToolRequest): Promise<AnswerTools>;
}

type Dependencies = {
  /** The available tools; listed again for every answer that may use them. */
  listTools(request: ToolRequest): Promise<RunnableTool[]>;
  log: Log;
  /** Absent or null: traces are off. */
  tracing?: Tracing | null;
};

export function createToolService({ listTools, log, tracing = null }: Dependencies): ToolService {
  /** If two tools share a name, the first one wins: providers reject duplicate names. */
  async function listChosen(request: ToolRequest): Promise<Map<string, RunnableTool>> {
    const { chosen } = request;
    const byName = new Map<string, RunnableTool>();
    if (chosen === false) return byName;
    const isChosen = ({ name }: RunnableTool) => chosen === true || chosen.includes(name);
    const tools = (await listTools(request)).filter(isChosen);
    for (const tool of tools) if (!byName.has(tool.name) && byName.size < TOOLS_MAX) byName.set(tool.name, tool);
    if (tools.length > TOOLS_MAX)
      log.warn(
        { tools: tools.length, offered: TOOLS_MAX },
        "more tools than a model can be offered; the last ones are skipped",
      );
    return byName;
  }

  async function run(
    tool: RunnableTool | undefined,
    { arguments: text }: ToolCall,
    signal: AbortSignal,
    leftMs: number,
  ) {
    if (!tool) throw new ToolError("This tool is not available.");
    const input = parseArguments(text);
    const timeoutMs = Math.min(leftMs, tool.timeoutMs ?? TOOL_TIMEOUT_MS);
    return withTimeout((limited) => tool.run(input, limited), signal, timeoutMs);
  }

  /** A span for a call. Its arguments and its result aren't recorded. */
  function traceCall({ id }: ToolCall, tool: RunnableTool | undefined, work: () => Promise<ToolResult>) {
    if (!tracing) return work();
    // A model may call any name, which would be text that it wrote.
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
    async open(request) {
      const byName = await listChosen(request);
      return {
        definitions: [...byName.values()].map(({ name, description, parameters }) => ({
          name,
          description,
          parameters,
        })),

        call(call, signal, leftMs = Number.POSITIVE_INFINITY) {
          const tool = byName.get(call.name);
          return traceCall(call, tool, async () => {
            try {
              return { content: clip(await run(tool, call, signal, leftMs)), isError: false };
            } catch (error) {
              if (error instanceof ToolError) return { content: `Error: ${clip(error.message)}`, isError: true };
              if (!signal.aborted) log.warn({ err: error, tool: call.name }, "tool failed");
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
    throw new ToolError(`The arguments are not valid JSON: ${text.slice(0, SHOWN_ARGUMENTS_CHARS_MAX)}`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new ToolError("The arguments must be a JSON object.");
  return value as Record<string, unknown>;
}

/** Also ends a tool that ignores its signal; its result is then discarded. */
async function withTimeout(
  work: (signal: AbortSignal) => Promise<string>,
  signal: AbortSignal,
  timeoutMs: number,
): Promise<string> {
  const controller = new AbortController();
  const { promise: ended, reject } = Promise.withResolvers<never>();
  const end = (error: Error) => {
    reject(error);
    controller.abort();
  };
  const onAbort = () => end(new ToolError("The call was stopped."));
  const timer = setTimeout(
    () => end(new ToolError(`The tool did not respond within ${Math.ceil(timeoutMs / 1000)} seconds.`)),
    timeoutMs,
  );
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    return await Promise.race([work(controller.signal), ended]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  }
}

/** Text that can be stored and sent, within the limit. */
function clip(text: string): string {
  const clean = text.replaceAll("\0", "").toWellFormed();
  if (clean.length <= TOOL_RESULT_CHARS_MAX) return clean;
  const note = "\n(The rest was cut off.)";
  return clean.slice(0, TOOL_RESULT_CHARS_MAX - note.length).toWellFormed() + note;
}
