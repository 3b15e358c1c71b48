import { applyPart, type RunEnd } from "../../ai/answer-part.ts";
import { createTotal } from "../../ai/chain/account.ts";
import type { Chain, RunRequest } from "../../ai/chain/chain.ts";
import { type FollowPart, follow } from "../../ai/chain/follow.ts";
import type { ChatMessage, Thinking, Tool, ToolCall } from "../../ai/provider.ts";
import { measureThinking, THINKING_LENGTH_MAX } from "../../ai/thinking.ts";
import type { ToolResult } from "../tools/model.ts";
import type { AnswerTools } from "../tools/service.ts";
import type { ToolProgress } from "./tool-queries.ts";

/** Steps of one answer; in the last of them the model may call no more tools. */
export const TOOL_STEPS_MAX = 8;
/** After this time from the start the model may call no more tools: enough for several steps of a model that thinks. */
const TOOL_LOOP_TIME_MAX_MS = 600_000;
/** Calls of one step that are carried out; the model is told of the others. */
export const TOOL_CALLS_PER_STEP_MAX = 16;

export type ToolCallDone = {
  call: ToolCall;
  result: ToolResult;
  step: number;
  /** What led to the calls of this step, with its first one. */
  thinking: Thinking | undefined;
};

type Dependencies = {
  chain: Chain;
  /** The tools that the answer may use. */
  openTools(): Promise<AnswerTools>;
  /** Stores the result of a call, and how far the answer is. It may abort the signal. */
  onResult(done: ToolCallDone): Promise<void>;
};

/**
 * An answer in which the model may call tools: after each step that ends with calls these are carried out, and the next
 * step begins with their results, and with what the model thought before, which goes back to its provider alone. Each step
 * is a run of the chain; to its reader all are one, with one end that accounts for them together.
 * @param progress what was got before; the step that broke off then is made anew.
 * @param take has taken all parts of a step before its calls are carried out.
 * @throws what `openTools`, `onResult` and `take` throw.
 */
export async function runWithTools(
  { chain, openTools, onResult }: Dependencies,
  request: RunRequest,
  progress: ToolProgress | null,
  take: FollowPart,
): Promise<RunEnd> {
  const { signal } = request;
  const startedAtMs = performance.now();
  const endsAtMs = startedAtMs + chain.answerTimeoutMs;
  const tools = await openTools();
  const definitions = addFormerTools(tools.definitions, progress);
  const messages: ChatMessage[] = [...request.messages, ...(progress?.messages ?? [])];
  const total = createTotal();
  let { resume = null } = request;
  let text = resume?.text ?? "";
  let attempt = resume?.attempt ?? 0;
  let lastModel: string | null = null;
  let thinkingLength = progress?.thinkingLength ?? 0;

  /** What is kept of the thinking of a step; nothing beyond the limit of the answer. */
  function keepThinking(thinking: Thinking | undefined): Thinking | undefined {
    const length = thinking ? measureThinking(thinking) : 0;
    if (thinkingLength + length > THINKING_LENGTH_MAX) return undefined;
    thinkingLength += length;
    return thinking;
  }

  for (let step = (progress?.steps ?? 0) + 1; ; step += 1) {
    const isLast = step >= TOOL_STEPS_MAX || performance.now() > startedAtMs + TOOL_LOOP_TIME_MAX_MS;
    const offered = definitions.length > 0 && { tools: definitions, toolChoice: isLast ? ("none" as const) : null };
    const options = { ...request.options, ...offered };
    const stepStart = text.length;
    const end = await follow(chain.run, { ...request, messages, resume, options, startedAtMs }, (part) => {
      text = applyPart(text, part);
      if (part.type !== "text") attempt = part.attempt;
      return take(part);
    });
    total.add(end);
    // A run that began after the answer's time asked no model: the one before did.
    if (end.type !== "finish") return { ...end, model: end.model ?? lastModel, ...total.sum() };
    if (end.toolCalls.length === 0 || isLast) return { ...end, ...total.sum() };
    lastModel = end.model;
    const thinking = keepThinking(end.thinking);
    messages.push({ role: "assistant", content: text.slice(stepStart), toolCalls: end.toolCalls, thinking });
    for (const [index, call] of end.toolCalls.entries()) {
      const leftMs = endsAtMs - performance.now();
      // The next run ends the answer.
      if (leftMs <= 0) break;
      const result = index < TOOL_CALLS_PER_STEP_MAX ? await tools.call(call, signal, leftMs) : tooMany;
      if (!signal.aborted) await onResult({ call, result, step, thinking: index === 0 ? thinking : undefined });
      if (signal.aborted) return { type: "aborted", model: end.model, ...total.sum() };
      messages.push({ role: "tool", content: result.content, toolCallId: call.id });
    }
    resume = { text, attempt, step: "next" };
  }
}

const tooMany: ToolResult = {
  content: `Error: not carried out; at most ${TOOL_CALLS_PER_STEP_MAX} calls may be made at once.`,
  isError: true,
};

/** Providers refuse calls among the messages whose tools they are not told of; a server may have gone since. */
function addFormerTools(definitions: readonly Tool[], progress: ToolProgress | null): readonly Tool[] {
  const known = new Set(definitions.map(({ name }) => name));
  const called = (progress?.messages ?? []).flatMap((message) =>
    "toolCalls" in message ? (message.toolCalls ?? []) : [],
  );
  const former = [...new Set(called.map(({ name }) => name))].filter((name) => !known.has(name));
  const parameters = { type: "object", properties: {} };
  return [...definitions, ...former.map((name) => ({ name, description: "Not available any more.", parameters }))];
}
