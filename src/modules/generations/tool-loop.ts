import type { Chain, ChainRequest } from "../../ai/chain.ts";
import type { Account, ChainPart } from "../../ai/chain-part.ts";
import type { ChatMessage, ToolCall } from "../../ai/provider.ts";
import type { ToolResult } from "../tools/model.ts";
import type { ToolService } from "../tools/service.ts";
import type { ToolProgress } from "./tool-queries.ts";

/** Turns of one answer; in the last of them the model may call no more tools. */
export const TOOL_STEPS_MAX = 8;
/** After this time from the start of a run the model may call no more tools. */
export const TOOL_LOOP_TIME_MAX_MS = 120_000;
/** Calls of one turn that are carried out; the model is told of the others. */
export const TOOL_CALLS_PER_STEP_MAX = 16;

export type ToolCallDone = { call: ToolCall; result: ToolResult; step: number };

type Dependencies = {
  chain: Chain;
  tools: ToolService;
  /** Stores the result of a call, and how far the answer is. It may abort the run. */
  onResult(done: ToolCallDone): Promise<void>;
};

type Finish = Extract<ChainPart, { type: "finish" }>;

/**
 * A run of the chain in which the model may call tools: after each turn that ends with calls these are carried out, and
 * the next turn begins with their results. To its reader it is one run, with one last part that accounts for all turns.
 * @param progress what an earlier run has got; the turn in which that broke off is made anew.
 */
export async function* runWithTools(
  { chain, tools, onResult }: Dependencies,
  request: Omit<ChainRequest, "options" | "onText">,
  progress: ToolProgress | null,
): AsyncGenerator<ChainPart, void, undefined> {
  const { signal } = request;
  const endsAtMs = performance.now() + TOOL_LOOP_TIME_MAX_MS;
  const definitions = await tools.list();
  const messages: ChatMessage[] = [...request.messages, ...(progress?.messages ?? [])];
  const total = createTotal();
  let { resume = null } = request;
  let text = resume?.text ?? "";
  let attempt = resume?.attempt ?? 0;

  for (let step = (progress?.steps ?? 0) + 1; ; step += 1) {
    const isLast = step >= TOOL_STEPS_MAX || performance.now() > endsAtMs;
    const options = { tools: definitions, toolChoice: isLast ? ("none" as const) : null };
    const turnStart = text.length;
    let calling: Finish | null = null;
    for await (const part of chain.run({ ...request, messages, resume, options })) {
      if (part.type === "text") text += part.text;
      else if (part.type === "start" || part.type === "reset") {
        attempt = part.attempt;
        if (part.type === "reset") text = part.text;
      } else {
        total.add(part);
        if (part.type === "finish" && part.toolCalls.length > 0 && !isLast) calling = part;
      }
      if (!calling) yield "usage" in part ? { ...part, ...total.sum() } : part;
    }
    if (!calling) return;
    messages.push({ role: "assistant", content: text.slice(turnStart), toolCalls: calling.toolCalls });
    for (const [index, call] of calling.toolCalls.entries()) {
      const result = index < TOOL_CALLS_PER_STEP_MAX ? await tools.call(call, signal) : tooMany;
      if (!signal.aborted) await onResult({ call, result, step });
      if (signal.aborted) {
        yield { type: "aborted", ...total.sum() };
        return;
      }
      messages.push({ role: "tool", content: result.content, toolCallId: call.id });
    }
    resume = { text, attempt, turn: "next" };
  }
}

const tooMany: ToolResult = {
  content: `Error: not carried out; at most ${TOOL_CALLS_PER_STEP_MAX} calls may be made at once.`,
  isError: true,
};

/** The accounts of all turns as one. */
function createTotal() {
  const total: Account = { models: [], usage: null, costUsd: null };
  return {
    add({ models, usage, costUsd }: Account): void {
      for (const model of models) if (!total.models.includes(model)) total.models.push(model);
      if (!usage) return;
      const before = total.usage;
      total.costUsd = before === null ? costUsd : addCost(total.costUsd, costUsd);
      total.usage = {
        input_tokens: (before?.input_tokens ?? 0) + usage.input_tokens,
        output_tokens: (before?.output_tokens ?? 0) + usage.output_tokens,
        estimated: (before?.estimated ?? false) || usage.estimated,
      };
    },
    sum: (): Account => ({ ...total, models: [...total.models] }),
  };
}

/** Not known as soon as one part of it is not. */
const addCost = (one: number | null, other: number | null) => (one === null || other === null ? null : one + other);
