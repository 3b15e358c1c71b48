import type { RunEnd } from "../../ai/answer-part.ts";
import type { Chain, RunRequest } from "../../ai/chain/chain.ts";
import type { FollowPart } from "../../ai/chain/follow.ts";
import type { Database } from "../../db/client.ts";
import { isTemporary, retryTemporary } from "../../db/retry.ts";
import { fitText } from "../../db/storable.ts";
import type { EventLog } from "../../events/log.ts";
import { createId } from "../../lib/id.ts";
import type { Log } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import { Problem } from "../../lib/problem.ts";
import { appendToolMessage } from "../messages/service.ts";
import type { ToolService } from "../tools/service.ts";
import type { Pieces } from "./pieces.ts";
import { answerLogFields, type RunningAnswer, stopAnswer } from "./running-answer.ts";
import type { ThinkingStore } from "./thinking-store.ts";
import { runWithTools, type ToolCallDone } from "./tool-loop.ts";
import { findToolRequester, loadToolProgress, type ToolMetadata } from "./tool-queries.ts";

/** How long to keep trying to store a result; then the answer is left to a successor, which calls the tool again. */
const STORE_MS_MAX = 60_000;

export type ToolRunDependencies = {
  database: Database;
  events: EventLog;
  chain: Chain;
  tools: ToolService;
  pieces: Pieces;
  thinking: ThinkingStore;
  metrics: Metrics;
  log: Log;
};

/** Runs answers whose model may call tools. Each call is stored and pushed as a `tool` message below its answer. */
export function createToolRuns(deps: ToolRunDependencies) {
  const { database, events, chain, tools, pieces, metrics, log } = deps;
  /**
   * Stores the result, the text so far and its thinking in one transaction, so that a successor has all of it or nothing.
   */
  async function store(answer: RunningAnswer, { call, result, step, thinking }: ToolCallDone): Promise<void> {
    const { generation, live, released } = answer;
    live.flush();
    const { message_id: parentId, conversation_id: conversationId } = generation;
    const metadata: ToolMetadata = {
      name: fitText(call.name),
      arguments: fitText(call.arguments),
      call_id: fitText(call.id),
      is_error: result.isError,
      step,
      offset: live.text.length,
      reasoning_offset: live.reasoning.length,
    };
    const message = { id: createId(), conversationId, parentId, metadata, content: fitText(result.content) };
    const write = () =>
      pieces.store(answer, (writePiece) =>
        events.write(conversationId, async (transaction) => {
          await appendToolMessage(transaction, message);
          if (thinking) await deps.thinking.write(transaction.sql, generation, step, thinking);
          if (!(await writePiece(transaction.sql))) throw new LeaseLostError();
        }),
      );
    const signal = AbortSignal.any([released.signal, AbortSignal.timeout(STORE_MS_MAX)]);
    try {
      await retryTemporary(write, signal);
      metrics.messages.inc({ role: "tool" });
    } catch (error) {
      const isGone = error instanceof Problem && error.code === "not_found";
      // Doesn't throw, so that the answer ends with its usage so far.
      if (error instanceof LeaseLostError || isGone || isTemporary(error) || signal.aborted) {
        log.warn(
          { err: error, ...answerLogFields(answer) },
          "the result of a tool could not be stored; another instance calls it again",
        );
        stopAnswer(answer, "release");
      } else {
        log.error(
          { err: error, ...answerLogFields(answer) },
          "the database rejected the result of a tool; the answer ends",
        );
        stopAnswer(answer, "fail");
      }
    }
  }

  return {
    /**
     * Writes an answer with tools. An answer that was taken over continues after its last stored results: later text may
     * have led to a call that was lost, so that step is repeated.
     * @param chosen the tools that it may use: all, or these names.
     * @param attempt the newest attempt that readers may have seen; 0: none.
     */
    async run(
      answer: RunningAnswer,
      chosen: true | readonly string[],
      attempt: number,
      request: Omit<RunRequest, "resume">,
      take: FollowPart,
    ): Promise<RunEnd> {
      const { generation, live } = answer;
      const thought = attempt > 0 ? await deps.thinking.load(database, generation) : new Map();
      const progress = attempt > 0 ? await loadToolProgress(database, generation, live.text, thought) : null;
      const resume = progress && {
        text: live.text.slice(0, progress.offset),
        reasoning: live.reasoning.slice(0, progress.reasoningOffset),
        attempt,
        step: "restarted" as const,
      };
      const onResult = (done: ToolCallDone) => store(answer, done);
      const { signal } = request;
      const openTools = async () =>
        tools.open({ selection: chosen, userId: await findToolRequester(database, generation), signal });
      return runWithTools({ chain, openTools, onResult }, { ...request, resume }, progress, take);
    },
  };
}

export type ToolRuns = ReturnType<typeof createToolRuns>;

class LeaseLostError extends Error {}
