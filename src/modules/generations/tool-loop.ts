import { applyPart, applyReasoning, type RunEnd } from "../../ai/answer-part.ts";
import type { Chain, RunRequest } from "../../ai/chain/chain.ts";
import { type FollowPart, follow } from "../../ai/chain/follow.ts";
import { createCostTotal } from "../../ai/chain/run-costs.ts";
import type { ChatMessage, Thinking, Tool, ToolCall } from "../../ai/provider.ts";
import { measureThinking, THINKING_LENGTH_MAX } from "../../ai/thinking.ts";
import type { ToolResult } from "../tools/model.ts";
import type { AnswerTools } from "../tools/service.ts";
import type { ToolProgress } from "./tool-queries.ts";

/** Steps per answer; in the last one the model may not call tools. */
export const TOOL_STEPS_MAX = 8;
/** After this time the model may not call tools any more. Enough for several steps of a thinking model. */
const TOOL_LOOP_TIME_MAX_MS = 600_000;
/** Calls executed per step; the model is told about the rest. */
export const TOOL_CALLS_PER_STEP_MAX = 16;

export type ToolCallDone = {
  call: ToolCall;
  result: ToolResult;
  step: number;
  /** The thinking behind this step's calls, passed with the first one. */
  thinking: Thinking | undefined;
};

type Dependencies = {
  chain: Chain;
  /** Opens the tools that the answer may use. */
  openTools(): Promise<AnswerTools>;
  /** Stores a call's result and the answer's progress. May abort the signal. */
  onResult(done: ToolCallDone): Promise<void>;
};

/**
 * Runs an answer whose model may call tools. When a step ends with calls, they are executed, and the next step starts with
 * their results and with the model's thinking, which is returned only to its provider. Each step is a run of the chain; the
 * reader sees one run, with one end that sums up their costs.
 * @param progress earlier results; the step that broke off is repeated.
 * @param onPart has taken all parts of a step before its calls are executed.
 * @throws what `openTools`, `onResult` and `take` throw.
 */
export async function runWithTools(
  { chain, openTools, onResult }: Dependencies,
  request: RunRequest,
  progress: ToolProgress | null,
  onPart: FollowPart,
): Promise<RunEnd> {
  const { signal } = request;
  const startedAtMs = performance.now();
  const endsAtMs = startedAtMs + chain.answerTimeoutMs;
  const tools = await openTools();
  const definitions = addFormerTools(tools.definitions, progress);
  const messages: ChatMessage[] = [...request.messages, ...(progress?.messages ?? [])];
  const total = createCostTotal();
  let { resume = null } = request;
  let text = resume?.text ?? "";
  let reasoning = resume?.reasoning ?? "";
  let attempt = resume?.attempt ?? 0;
  let lastModel: string | null = null;
  let thinkingLength = progress?.thinkingLength ?? 0;

  /** Returns the thinking to keep for a step; none beyond the answer's limit. */
  function limitThinking(thinking: Thinking | undefined): Thinking | undefined {
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
      if (part.type !== "text") reasoning = applyReasoning(reasoning, part);
      if (part.type === "start" || part.type === "reset") attempt = part.attempt;
      return onPart(part);
    });
    total.add(end);
    // A run that started after the answer's deadline called no model; the previous one did.
    if (end.type !== "finish") return { ...end, model: end.model ?? lastModel, ...total.sum() };
    if (end.toolCalls.length === 0 || isLast) return { ...end, ...total.sum() };
    lastModel = end.model;
    const thinking = limitThinking(end.thinking);
    messages.push({ role: "assistant", content: text.slice(stepStart), toolCalls: end.toolCalls, thinking });
    for (const [index, call] of end.toolCalls.entries()) {
      const leftMs = endsAtMs - performance.now();
      // The next run ends the answer.
      if (leftMs <= 0) break;
      const result = index < TOOL_CALLS_PER_STEP_MAX ? await tools.call(call, signal, leftMs) : tooManyCalls;
      if (!signal.aborted) await onResult({ call, result, step, thinking: index === 0 ? thinking : undefined });
      if (signal.aborted) return { type: "aborted", model: end.model, ...total.sum() };
      messages.push({ role: "tool", content: result.content, toolCallId: call.id });
    }
    resume = { text, reasoning, attempt, step: "next" };
  }
}

const tooManyCalls: ToolResult = {
  content: `Error: not executed; at most ${TOOL_CALLS_PER_STEP_MAX} calls are allowed per step.`,
  isError: true,
};

/** Providers reject calls to tools that aren't listed in the request, but a server may have gone since. */
function addFormerTools(definitions: readonly Tool[], progress: ToolProgress | null): readonly Tool[] {
  const known = new Set(definitions.map(({ name }) => name));
  const called = (progress?.messages ?? []).flatMap((message) =>
    "toolCalls" in message ? (message.toolCalls ?? []) : [],
  );
  const former = [...new Set(called.map(({ name }) => name))].filter((name) => !known.has(name));
  const parameters = { type: "object", properties: {} };
  return [...definitions, ...former.map((name) => ({ name, description: "No longer available.", parameters }))];
}
