import { applyPart, applyReasoning, type RunEnd } from "../../ai/answer-part.ts";
import type { Chain, RunRequest } from "../../ai/chain/chain.ts";
import { type FollowPart, followRun } from "../../ai/chain/follow.ts";
import { createCostTotal } from "../../ai/chain/run-costs.ts";
import type { ChatMessage, Thinking, Tool, ToolCall } from "../../ai/provider.ts";
import { getThinkingLength, THINKING_LENGTH_MAX } from "../../ai/thinking.ts";
import type { ToolResult } from "../tools/model.ts";
import type { AnswerTools } from "../tools/service.ts";
import type { ToolProgress } from "./tool-queries.ts";

/** Maximum number of steps per answer. In the last one, the model can't call tools. */
export const TOOL_STEPS_MAX = 8;
/** The time after which the model can no longer call tools. It is enough for several steps of a thinking model. */
const TOOL_LOOP_MS_MAX = 600_000;
/** Maximum number of calls executed per step. The model receives an error for each further call. */
export const TOOL_CALLS_PER_STEP_MAX = 16;

export type FinishedToolCall = {
  call: ToolCall;
  result: ToolResult;
  step: number;
  /** The thinking before this step's calls. Set only for the first call. */
  thinking: Thinking | undefined;
};

type Dependencies = {
  chain: Chain;
  /** Opens the tools that the answer may use. */
  openTools(): Promise<AnswerTools>;
  /** Stores a call's result and the answer's progress. May abort the signal. */
  onResult(finishedCall: FinishedToolCall): Promise<void>;
};

/**
 * Runs an answer whose model may call tools. When a step ends with calls, they are executed. The next step starts with their results and
 * the model's thinking, which is sent back only to its own provider. Each step is a run of the failover chain. The returned `RunEnd` has
 * the total costs of all steps.
 * @param progress earlier results. A step that was interrupted is repeated.
 * @param onPart receives all parts of a step before the step's calls are executed.
 * @throws any error thrown by `openTools`, `onResult` or `onPart`.
 */
export async function runWithTools(
  { chain, openTools, onResult }: Dependencies,
  request: RunRequest,
  progress: ToolProgress | null,
  onPart: FollowPart,
): Promise<RunEnd> {
  const { signal } = request;
  const startedAtMs = performance.now();
  const deadlineMs = startedAtMs + chain.answerTimeoutMs;
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

  /** Returns the thinking to keep for a step, or undefined if it exceeds the answer's limit. */
  function limitThinking(thinking: Thinking | undefined): Thinking | undefined {
    const length = thinking ? getThinkingLength(thinking) : 0;
    if (thinkingLength + length > THINKING_LENGTH_MAX) return undefined;
    thinkingLength += length;
    return thinking;
  }

  for (let step = (progress?.steps ?? 0) + 1; ; step += 1) {
    const isLastStep = step >= TOOL_STEPS_MAX || performance.now() > startedAtMs + TOOL_LOOP_MS_MAX;
    const toolOptions = definitions.length > 0 && {
      tools: definitions,
      toolChoice: isLastStep ? ("none" as const) : null,
    };
    const options = { ...request.options, ...toolOptions };
    const stepStart = text.length;
    const end = await followRun(chain.run, { ...request, messages, resume, options, startedAtMs }, (part) => {
      text = applyPart(text, part);
      if (part.type !== "text") reasoning = applyReasoning(reasoning, part);
      if (part.type === "start" || part.type === "reset") attempt = part.attempt;
      return onPart(part);
    });
    total.add(end);
    // A run that started after the answer's deadline called no model, so the previous run's model is returned.
    if (end.type !== "finish") return { ...end, model: end.model ?? lastModel, ...total.getTotal() };
    if (end.toolCalls.length === 0 || isLastStep) return { ...end, ...total.getTotal() };
    lastModel = end.model;
    const thinking = limitThinking(end.thinking);
    messages.push({ role: "assistant", content: text.slice(stepStart), toolCalls: end.toolCalls, thinking });
    for (const [index, call] of end.toolCalls.entries()) {
      const remainingMs = deadlineMs - performance.now();
      // The time limit is exceeded, so the next run ends the answer.
      if (remainingMs <= 0) break;
      const result = index < TOOL_CALLS_PER_STEP_MAX ? await tools.call(call, signal, remainingMs) : tooManyCalls;
      if (!signal.aborted) await onResult({ call, result, step, thinking: index === 0 ? thinking : undefined });
      if (signal.aborted) return { type: "aborted", model: end.model, ...total.getTotal() };
      messages.push({ role: "tool", content: result.content, toolCallId: call.id });
    }
    resume = { text, reasoning, attempt, step: "next" };
  }
}

const tooManyCalls: ToolResult = {
  content: `Error: not executed; at most ${TOOL_CALLS_PER_STEP_MAX} calls are allowed per step.`,
  isError: true,
};

/** Adds tools that were called earlier but no longer exist, because providers reject calls to tools that aren't listed. */
function addFormerTools(definitions: readonly Tool[], progress: ToolProgress | null): readonly Tool[] {
  const currentNames = new Set(definitions.map(({ name }) => name));
  const earlierCalls = (progress?.messages ?? []).flatMap((message) =>
    "toolCalls" in message ? (message.toolCalls ?? []) : [],
  );
  const formerNames = [...new Set(earlierCalls.map(({ name }) => name))].filter((name) => !currentNames.has(name));
  const parameters = { type: "object", properties: {} };
  return [...definitions, ...formerNames.map((name) => ({ name, description: "No longer available.", parameters }))];
}
