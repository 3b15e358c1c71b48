import type { Chain, ChainPart, ChainRequest } from "../../ai/chain.ts";
import type { Database } from "../../db/client.ts";
import { isTemporary, retryTemporary } from "../../db/retry.ts";
import type { EventLog } from "../../events/log.ts";
import { createId } from "../../lib/id.ts";
import type { Log } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import { Problem } from "../../lib/problem.ts";
import { appendMessage } from "../messages/service.ts";
import type { ToolService } from "../tools/service.ts";
import type { LiveAnswer } from "./live-answer.ts";
import type { Pieces } from "./pieces.ts";
import type { ClaimedGeneration } from "./queries.ts";
import { runWithTools, type ToolCallDone } from "./tool-loop.ts";
import { loadToolProgress, type ToolMetadata } from "./tool-queries.ts";

/** A result is tried to be stored for so long; then the answer is left to a successor, who calls the tool again. */
const STORE_MS_MAX = 60_000;

type Dependencies = {
  database: Database;
  events: EventLog;
  chain: Chain;
  tools: ToolService;
  pieces: Pieces;
  metrics: Metrics;
  log: Log;
};

type Answering = {
  generation: ClaimedGeneration;
  live: LiveAnswer;
  /** Nothing more is to be written, since the lease is gone or the database is away. It is to abort the run. */
  onLost(): void;
  /** The rest is for a successor. */
  released: AbortSignal;
};

/** Answers whose model may call tools. Each call is stored and pushed as a `tool` message below its answer. */
export function createToolRuns({ database, events, chain, tools, pieces, metrics, log }: Dependencies) {
  /** The result and the text so far in one transaction: a successor has both, or neither. */
  async function store(answering: Answering, { call, result, step }: ToolCallDone): Promise<void> {
    const { generation, live, onLost, released } = answering;
    live.flush();
    const { message_id: parentId, conversation_id: conversationId } = generation;
    const metadata: ToolMetadata = {
      name: call.name,
      arguments: call.arguments,
      call_id: call.id,
      is_error: result.isError,
      step,
      offset: live.text.length,
    };
    const message = { id: createId(), conversationId, parentId, metadata, content: result.content };
    const write = () =>
      pieces.store(answering, (writePiece) =>
        events.write(conversationId, async (transaction) => {
          await appendMessage(transaction, { ...message, role: "tool", status: "complete" });
          if (!(await writePiece(transaction.sql))) throw new LostError();
        }),
      );
    const signal = AbortSignal.any([released, AbortSignal.timeout(STORE_MS_MAX)]);
    try {
      await retryTemporary(write, signal);
      metrics.messages.inc({ role: "tool" });
    } catch (error) {
      const isGone = error instanceof Problem && error.code === "not_found";
      if (!(error instanceof LostError || isGone || isTemporary(error) || signal.aborted)) throw error;
      log.warn({ err: error, message_id: parentId }, "the result of a tool is not stored; a successor calls it again");
      // Nothing is thrown: the run then ends with what it has used so far.
      onLost();
    }
  }

  return {
    /**
     * Begins a run. One that was taken over goes on after the last results that are stored: text after them may have led
     * to a call that nobody knows of, so that turn is made again.
     * @param attempt the newest attempt that readers may have seen; 0: none.
     */
    async open(
      answering: Answering,
      attempt: number,
      request: Omit<ChainRequest, "options" | "resume" | "onText">,
    ): Promise<AsyncGenerator<ChainPart, void, undefined>> {
      const { generation, live } = answering;
      const progress = attempt > 0 ? await loadToolProgress(database, generation, live.text) : null;
      const resume = progress && { text: live.text.slice(0, progress.offset), attempt, turn: "restarted" as const };
      const onResult = (done: ToolCallDone) => store(answering, done);
      return runWithTools({ chain, tools, onResult }, { ...request, resume }, progress);
    },
  };
}

class LostError extends Error {}
