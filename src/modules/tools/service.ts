import type { Tool, ToolCall } from "../../ai/provider.ts";
import type { Log } from "../../lib/log.ts";
import { type RunnableTool, ToolError, type ToolRequest, type ToolResult } from "./model.ts";

/** The longest time of one call, unless the tool has its own. */
const TOOL_TIMEOUT_MS = 20_000;
/** Tools of one answer: providers refuse more. */
const TOOLS_MAX = 128;
/** UTF-16 units of a result; what is longer is cut, and the model is told. */
export const TOOL_RESULT_CHARS_MAX = 20_000;
const SHOWN_ARGUMENTS_CHARS_MAX = 200;

/** The tools of one answer, as they were when it began: a name means the same tool to its end. */
export interface AnswerTools {
  /** What a model is told of them. */
  readonly definitions: readonly Tool[];

  /**
   * Carries a call out, in the tool's time or `leftMs` (milliseconds) if that is less. An error is a result as well, which
   * the model is told in our words; so is a tool that the answer may not use. Never rejects.
   */
  call(call: ToolCall, signal: AbortSignal, leftMs?: number): Promise<ToolResult>;
}

/** The tools of conversations: which there are, and how a model's call becomes a result. */
export interface ToolService {
  /** The tools that an answer may use. A name that no tool has now is left out: servers come and go. */
  open(request: ToolRequest): Promise<AnswerTools>;
}

type Dependencies = {
  /** The tools there are now; asked anew for every answer that may use them. */
  listTools(request: ToolRequest): Promise<RunnableTool[]>;
  log: Log;
};

export function createToolService({ listTools, log }: Dependencies): ToolService {
  /** Of two tools with one name the first counts: providers take no name twice. */
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
        "more tools than a model can be offered; the last are left out",
      );
    return byName;
  }

  async function run(
    tool: RunnableTool | undefined,
    { arguments: text }: ToolCall,
    signal: AbortSignal,
    leftMs: number,
  ) {
    if (!tool) throw new ToolError("There is no such tool.");
    const input = parseArguments(text);
    const timeoutMs = Math.min(leftMs, tool.timeoutMs ?? TOOL_TIMEOUT_MS);
    return withTimeout((limited) => tool.run(input, limited), signal, timeoutMs);
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

        async call(call, signal, leftMs = Number.POSITIVE_INFINITY) {
          try {
            return { content: clip(await run(byName.get(call.name), call, signal, leftMs)), isError: false };
          } catch (error) {
            if (error instanceof ToolError) return { content: `Error: ${clip(error.message)}`, isError: true };
            if (!signal.aborted) log.warn({ err: error, tool: call.name }, "tool failed");
            return { content: "Error: the tool failed.", isError: true };
          }
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

/** Also ends a tool that does not listen to its signal: its result is then of no use to anybody. */
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
    () => end(new ToolError(`The tool did not answer in ${Math.ceil(timeoutMs / 1000)} seconds.`)),
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
