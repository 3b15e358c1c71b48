import type { RunEnd } from "../../ai/answer-part.ts";
import type { Chain, RunRequest } from "../../ai/chain/chain.ts";
import type { FollowPart } from "../../ai/chain/follow.ts";
import type { Database } from "../../db/client.ts";
import { isTemporary, retryTemporary } from "../../db/retry.ts";
import { toStorableText } from "../../db/storable.ts";
import type { EventLog } from "../../events/log.ts";
import { createId } from "../../lib/id.ts";
import type { Log } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import { Problem } from "../../lib/problem.ts";
import { appendToolMessage } from "../messages/service.ts";
import type { ToolService } from "../tools/service.ts";
import type { PieceStore } from "./pieces.ts";
import { getAnswerLogFields, type RunningAnswer, stopAnswer } from "./running-answer.ts";
import type { ThinkingStore } from "./thinking-store.ts";
import { type FinishedToolCall, runWithTools } from "./tool-loop.ts";
import { findToolRequester, loadToolProgress, type ToolMetadata } from "./tool-queries.ts";

/** The maximum time for storing a result. After that, the answer is released, and the next owner calls the tool again. */
const STORE_TIMEOUT_MS = 60_000;

export type ToolRunDependencies = {
  database: Database;
  events: EventLog;
  chain: Chain;
  tools: ToolService;
  pieceStore: PieceStore;
  thinkingStore: ThinkingStore;
  metrics: Metrics;
  log: Log;
};

/** Creates the runner for answers with tools. Each call is stored and pushed as a `tool` message that belongs to its answer. */
export function createToolRunner(deps: ToolRunDependencies) {
  const { database, events, chain, tools, pieceStore, metrics, log } = deps;
  /** Stores the result, the text so far and the thinking in one transaction, so that the next owner has all of them or none. */
  async function storeResult(answer: RunningAnswer, { call, result, step, thinking }: FinishedToolCall): Promise<void> {
    const { generation, live, releaseController } = answer;
    live.flush();
    const { message_id: parentId, conversation_id: conversationId } = generation;
    const metadata: ToolMetadata = {
      name: toStorableText(call.name),
      arguments: toStorableText(call.arguments),
      call_id: toStorableText(call.id),
      is_error: result.isError,
      step,
      offset: live.text.length,
      reasoning_offset: live.reasoning.length,
    };
    const message = { id: createId(), conversationId, parentId, metadata, content: toStorableText(result.content) };
    const write = () =>
      pieceStore.store(answer, (writePiece) =>
        events.write(conversationId, async (transaction) => {
          await appendToolMessage(transaction, message);
          if (thinking) await deps.thinkingStore.write(transaction.sql, generation, step, thinking);
          if (!(await writePiece(transaction.sql))) throw new LeaseLostError();
        }),
      );
    const signal = AbortSignal.any([releaseController.signal, AbortSignal.timeout(STORE_TIMEOUT_MS)]);
    try {
      await retryTemporary(write, signal);
      metrics.messages.inc({ role: "tool" });
    } catch (error) {
      const isDeleted = error instanceof Problem && error.code === "not_found";
      // Doesn't throw, so that the answer ends normally and its usage so far is charged.
      if (error instanceof LeaseLostError || isDeleted || isTemporary(error) || signal.aborted) {
        log.warn(
          { err: error, ...getAnswerLogFields(answer) },
          "the result of a tool could not be stored; another instance calls it again",
        );
        stopAnswer(answer, "release");
      } else {
        log.error(
          { err: error, ...getAnswerLogFields(answer) },
          "the database rejected the result of a tool; the answer ends",
        );
        stopAnswer(answer, "fail");
      }
    }
  }

  return {
    /**
     * Writes an answer with tools. An answer that was taken over continues after its last stored results. Any later text is discarded,
     * because the tool result that it is based on may have been lost.
     * @param selection the tools that the answer may use: all (true), or these names.
     * @param attempt the newest attempt that may have been pushed to readers, or 0 if there is none.
     */
    async run(
      answer: RunningAnswer,
      selection: true | readonly string[],
      attempt: number,
      request: Omit<RunRequest, "resume">,
      onPart: FollowPart,
    ): Promise<RunEnd> {
      const { generation, live } = answer;
      const thinkingByStep = attempt > 0 ? await deps.thinkingStore.load(database, generation) : new Map();
      const progress = attempt > 0 ? await loadToolProgress(database, generation, live.text, thinkingByStep) : null;
      const resume = progress && {
        text: live.text.slice(0, progress.offset),
        reasoning: live.reasoning.slice(0, progress.reasoningOffset),
        attempt,
        step: "restarted" as const,
      };
      const onResult = (finished: FinishedToolCall) => storeResult(answer, finished);
      const { signal } = request;
      const openTools = async () =>
        tools.selectTools({ selection, userId: await findToolRequester(database, generation), signal });
      return runWithTools({ chain, openTools, onResult }, { ...request, resume }, progress, onPart);
    },
  };
}

export type ToolRunner = ReturnType<typeof createToolRunner>;

class LeaseLostError extends Error {}
