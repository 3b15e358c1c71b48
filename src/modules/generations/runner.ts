import { type Database, getReservedPool, type Sql, withTransaction } from "../../db/client.ts";
import type { Log } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import { formatTraceparent, parseTraceparent } from "../../lib/tracing/traceparent.ts";
import { failSpan, type Span, type SpanContext, type Tracing } from "../../lib/tracing/tracing.ts";
import type { Bus } from "../../realtime/bus.ts";
import { type AnswerFinalizerDependencies, createAnswerFinalizer } from "./answer-finalizer.ts";
import { type AnswerTextDependencies, createAnswerWriter } from "./answer-text.ts";
import type { ContextData } from "./context-queries.ts";
import { createInterruptedState, INTERRUPTIONS_MAX } from "./final-states.ts";
import { createFlushInterval } from "./flush-interval.ts";
import { createFlushScheduler } from "./flush-scheduler.ts";
import { LiveAnswer } from "./live-answer.ts";
import type { LiveAnswerRegistry } from "./live-answers.ts";
import { createPieceStore, getLeaseKey } from "./pieces.ts";
import * as queries from "./queries.ts";
import {
  createRunningAnswer,
  GENERATION_LEASE_DURATION_MS,
  getAnswerLogFields,
  type RunningAnswer,
  stopAnswer,
} from "./running-answer.ts";
import { createToolRunner, type ToolRunDependencies } from "./tool-runs.ts";
import type { PendingGeneration } from "./waiting-answers.ts";

/** Leases are checked twice a second, but each is renewed only about every two seconds. */
const leaseTimes = { leaseMs: GENERATION_LEASE_DURATION_MS, renewBelowMs: GENERATION_LEASE_DURATION_MS - 1_500 };
/** The share of the shutdown time that is spent waiting for answers. The remaining time is for storing unfinished ones. */
const DRAIN_WAIT_SHARE = 0.8;

export type RunnerDependencies = Omit<AnswerTextDependencies, "toolRunner"> &
  Omit<AnswerFinalizerDependencies, "pieceStore" | "isHandingOver"> &
  Omit<ToolRunDependencies, "pieceStore"> & {
    database: Database;
    bus: Bus;
    liveAnswers: LiveAnswerRegistry;
    metrics: Metrics;
    log: Log;
    /** Absent or null if tracing is off. */
    tracing?: Tracing | null;
    /** The owner of this process's leases. */
    instanceId: string;
    /** Called when an answer has ended on this instance and its slot is free. */
    onEnd(): void;
    /** Whether reasoning is stored. */
    shouldStoreReasoning: boolean;
  };

/** Optional details about the request that started a generation. */
type StartContext = {
  /** The id of the client's request, for the log. Null if unknown. */
  requestId: string | null;
  /** The span of that request. */
  trace?: SpanContext | undefined;
  /** The context, if it was read when the question was committed. */
  contextData?: ContextData | undefined;
};

/** Creates the runner, which writes answers in background tasks. An answer is written even if nobody is reading it. */
export function createAnswerRunner(deps: RunnerDependencies) {
  const { database, bus, liveAnswers, metrics, log, tracing = null, instanceId, onEnd, shouldStoreReasoning } = deps;
  const pieceStore = createPieceStore({ database });
  const answerWriter = createAnswerWriter({ ...deps, toolRunner: createToolRunner({ ...deps, pieceStore }) });
  const finalizer = createAnswerFinalizer({ ...deps, pieceStore, isHandingOver: () => isHandingOver });
  const flushScheduler = createFlushScheduler(createFlushInterval());
  let isHandingOver = false;

  /** Writes the answer in a span of its request's trace, even after a takeover. */
  function writeTraced(answer: RunningAnswer, { trace, contextData }: StartContext): Promise<void> {
    if (!tracing) return write(answer, contextData);
    const { generation } = answer;
    const parent = trace ?? parseTraceparent(generation.traceparent) ?? null;
    const attributes = {
      "gen_ai.conversation.id": generation.conversation_id,
      "parley.message.id": generation.message_id,
      // 1, or higher after a takeover.
      "parley.generation.owner_number": generation.fence,
    };
    return tracing.run("generate answer", { parent, attributes }, (span) => {
      const context = span.isRecording() ? (trace ?? span.spanContext()) : undefined;
      if (context && generation.traceparent === null)
        withTransaction(database, (sql) =>
          queries.storeTraceparent(sql, getLeaseKey(generation), formatTraceparent(context)),
        ).catch((err) =>
          log.debug({ err, ...getAnswerLogFields(answer) }, "the trace of an answer could not be stored"),
        );
      return write(answer, contextData, span);
    });
  }

  async function write(answer: RunningAnswer, contextData: ContextData | undefined, span?: Span): Promise<void> {
    const startedAtMs = performance.now();
    const wasInterruptedTooOften = answer.generation.interruptions >= INTERRUPTIONS_MAX;
    const finalState = wasInterruptedTooOften
      ? createInterruptedState(answer.live, answer.stopReason === "cancel")
      : await answerWriter.write(answer, contextData);
    answer.live.flush();
    const final = await finalizer.finalize(answer, finalState);
    span?.setAttribute("parley.generation.outcome", final?.status ?? "released");
    if (span && final?.error) failSpan(span, final.error.code);
    if (!final) return;
    const model = final.model ?? "none";
    metrics.generations.inc({ model, outcome: final.status });
    metrics.generationDuration.observe({ model }, (performance.now() - startedAtMs) / 1000);
  }

  /** Writes a claimed generation until it has ended. Only the instance with the lease may write. Doesn't throw. */
  function startAnswer(generation: queries.ClaimedGeneration, startContext: StartContext): Promise<void> {
    // If the lease expired while the database was unavailable, an earlier task may still be running. It must stop.
    const earlierAnswer = liveAnswers.find(generation.id);
    if (earlierAnswer) stopAnswer(earlierAnswer, "release");
    const live = new LiveAnswer({
      conversationId: generation.conversation_id,
      messageId: generation.message_id,
      seq: generation.seq,
      attempt: generation.attempt,
      text: generation.content,
      reasoning: shouldStoreReasoning ? generation.reasoning : "",
      shouldStoreReasoning,
      bus,
      flushScheduler,
    });
    const answer = createRunningAnswer(generation, live, startContext.requestId);
    liveAnswers.add(answer);
    if (generation.is_cancelled) stopAnswer(answer, "cancel");
    // The generation was being claimed when the shutdown began.
    if (isHandingOver) stopAnswer(answer, "release");
    answer.done = writeTraced(answer, startContext)
      .catch((error) => log.error({ err: error, ...getAnswerLogFields(answer) }, "generation failed"))
      .finally(() => {
        liveAnswers.remove(answer);
        onEnd();
      });
    return answer.done;
  }

  // This subscription only speeds up cancellations. Without it, they take effect when the leases are renewed.
  bus.subscribe("generations", {
    onMessage({ message_id }) {
      const answer = liveAnswers.findByMessage(message_id);
      if (answer) stopAnswer(answer, "cancel");
    },
    onGap: () => {},
  });

  return {
    startAnswer,

    /**
     * Claims a new generation and writes it, unless another instance was faster. Claims run one at a time, because a whole batch of
     * concurrent claims would delay all other writes.
     */
    async claim({ requestId = null, trace, ...key }: PendingGeneration): Promise<void> {
      const claim = (sql: Sql) => queries.claimGeneration(sql, key, instanceId, GENERATION_LEASE_DURATION_MS);
      const generation = await liveAnswers.runClaim(() => withTransaction(database, claim, "claims"));
      if (generation) await startAnswer(generation, { requestId, trace });
    },

    /** Stores the new text of all answers that this instance is writing. */
    storePieces: (): Promise<void> => pieceStore.append(liveAnswers.list()),

    /** Renews the leases, and applies stored cancellations. */
    async renewLeases(): Promise<void> {
      const answers = liveAnswers.list();
      if (answers.length === 0) return;
      const keys = answers.map(({ generation }) => getLeaseKey(generation));
      const rows = await queries.renewGenerations(getReservedPool(database), instanceId, keys, leaseTimes);
      const renewed = new Map(rows.map((row) => [row.id, row]));
      for (const answer of answers) {
        const row = renewed.get(answer.generation.id);
        // If the lease is missing, another instance has it or the message was deleted, so this instance must stop writing.
        if (!row) stopAnswer(answer, "release");
        else if (row.is_cancelled) stopAnswer(answer, "cancel");
      }
    },

    /** Takes over crashed instances' unfinished answers. */
    async takeOverOrphans(rowsMax: number): Promise<void> {
      for (const generation of await queries.claimOrphans(
        database,
        instanceId,
        GENERATION_LEASE_DURATION_MS,
        rowsMax,
      )) {
        log.info({ message_id: generation.message_id, attempt: generation.attempt }, "generation taken over");
        void startAnswer(generation, { requestId: null });
      }
    },

    /**
     * Waits for the answers in progress. Shortly before `deadlineMs` (milliseconds since 1970), releases unfinished ones to other
     * instances.
     */
    async drain(deadlineMs: number): Promise<void> {
      const waitForAll = () => Promise.all(liveAnswers.list().map(({ done }) => done));
      await Promise.race([waitForAll(), Bun.sleep(Math.max(0, deadlineMs - Date.now()) * DRAIN_WAIT_SHARE)]);
      isHandingOver = true;
      for (const answer of liveAnswers.list()) stopAnswer(answer, "release");
      await waitForAll();
    },

    /** Closes the connections for commits. */
    close: finalizer.close,
  };
}
