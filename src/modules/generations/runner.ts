import { type Database, getReservedPool, type Sql, withTransaction } from "../../db/client.ts";
import type { Log } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import { formatTraceparent, parseTraceparent } from "../../lib/tracing/traceparent.ts";
import { failSpan, type Span, type SpanContext, type Tracing } from "../../lib/tracing/tracing.ts";
import type { Bus } from "../../realtime/bus.ts";
import { type AnswerFinalizerDependencies, createAnswerFinalizer } from "./answer-finalizer.ts";
import { type AnswerTextDependencies, createAnswerTexts } from "./answer-text.ts";
import type { ContextData } from "./context-queries.ts";
import { createInterruptedState, INTERRUPTIONS_MAX } from "./final-states.ts";
import { createFlushInterval } from "./flush-interval.ts";
import { createFlushScheduler } from "./flush-scheduler.ts";
import { LiveAnswer } from "./live-answer.ts";
import type { LiveAnswers } from "./live-answers.ts";
import { createPieces, keyOf } from "./pieces.ts";
import * as queries from "./queries.ts";
import {
  answerLogFields,
  createRunningAnswer,
  GENERATION_LEASE_DURATION_MS,
  type RunningAnswer,
  stopAnswer,
} from "./running-answer.ts";
import { createToolRuns, type ToolRunDependencies } from "./tool-runs.ts";
import type { PendingGeneration } from "./waiting-answers.ts";

/** Leases are checked twice a second, but renewed only every two seconds. */
const leaseTimes = { leaseMs: GENERATION_LEASE_DURATION_MS, renewBelowMs: GENERATION_LEASE_DURATION_MS - 1_500 };
/** The share of the shutdown time that is spent waiting for answers. The rest is for storing unfinished ones. */
const DRAIN_WAIT_SHARE = 0.8;

export type RunnerDependencies = Omit<AnswerTextDependencies, "toolRuns"> &
  Omit<AnswerFinalizerDependencies, "pieces" | "isHandingOver"> &
  Omit<ToolRunDependencies, "pieces"> & {
    database: Database;
    bus: Bus;
    liveAnswers: LiveAnswers;
    metrics: Metrics;
    log: Log;
    /** Absent or null if tracing is off. */
    tracing?: Tracing | null;
    /** The owner of this process's leases. */
    instanceId: string;
    /** Called when an answer on this instance has ended and its slot is free. */
    onEnd(): void;
    /** Whether reasoning is stored. */
    storesReasoning: boolean;
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

/** Creates the runner, which writes answers in tasks that run with or without readers. */
export function createRunner(deps: RunnerDependencies) {
  const { database, bus, liveAnswers, metrics, log, tracing = null, instanceId, onEnd, storesReasoning } = deps;
  const pieces = createPieces({ database });
  const texts = createAnswerTexts({ ...deps, toolRuns: createToolRuns({ ...deps, pieces }) });
  const finalizer = createAnswerFinalizer({ ...deps, pieces, isHandingOver: () => isHandingOver });
  const flushes = createFlushScheduler(createFlushInterval());
  let isHandingOver = false;

  /** Writes the answer in a span of its request's trace, even after a takeover. */
  function traceAnswer(answer: RunningAnswer, { trace, contextData }: StartContext): Promise<void> {
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
          queries.storeTraceparent(sql, keyOf(generation), formatTraceparent(context)),
        ).catch((err) => log.debug({ err, ...answerLogFields(answer) }, "the trace of an answer could not be stored"));
      return write(answer, contextData, span);
    });
  }

  async function write(answer: RunningAnswer, contextData: ContextData | undefined, span?: Span): Promise<void> {
    const startedAtMs = performance.now();
    const isInterruptedTooOften = answer.generation.interruptions >= INTERRUPTIONS_MAX;
    const finalState = isInterruptedTooOften
      ? createInterruptedState(answer.live, answer.stop === "cancel")
      : await texts.write(answer, contextData);
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
  function start(generation: queries.ClaimedGeneration, startContext: StartContext): Promise<void> {
    // If the lease expired while the database was unavailable, an earlier task may still be running. It must stop.
    const earlierAnswer = liveAnswers.find(generation.id);
    if (earlierAnswer) stopAnswer(earlierAnswer, "release");
    const live = new LiveAnswer({
      conversationId: generation.conversation_id,
      messageId: generation.message_id,
      seq: generation.seq,
      attempt: generation.attempt,
      text: generation.content,
      reasoning: storesReasoning ? generation.reasoning : "",
      storesReasoning,
      bus,
      flushes,
    });
    const answer = createRunningAnswer(generation, live, startContext.requestId);
    liveAnswers.add(answer);
    if (generation.is_cancelled) stopAnswer(answer, "cancel");
    // The generation was being claimed when the shutdown began.
    if (isHandingOver) stopAnswer(answer, "release");
    answer.done = traceAnswer(answer, startContext)
      .catch((error) => log.error({ err: error, ...answerLogFields(answer) }, "generation failed"))
      .finally(() => {
        liveAnswers.remove(answer);
        onEnd();
      });
    return answer.done;
  }

  // This only speeds up cancellations, which otherwise take effect when the leases are renewed.
  bus.subscribe("generations", {
    onMessage({ message_id }) {
      const answer = liveAnswers.findByMessage(message_id);
      if (answer) stopAnswer(answer, "cancel");
    },
    onGap: () => {},
  });

  return {
    begin: start,

    /**
     * Claims a new generation and writes it, unless another instance was faster. Claims run one at a time, because a whole batch of
     * concurrent claims would delay all other writes.
     */
    async claim({ requestId = null, trace, ...key }: PendingGeneration): Promise<void> {
      const claim = (sql: Sql) => queries.claimGeneration(sql, key, instanceId, GENERATION_LEASE_DURATION_MS);
      const generation = await liveAnswers.claim(() => withTransaction(database, claim, "claims"));
      if (generation) await start(generation, { requestId, trace });
    },

    /** Stores the new text of all answers that this instance is writing. */
    storePieces: (): Promise<void> => pieces.append(liveAnswers.list()),

    /** Renews the leases, and applies stored cancellations. */
    async renewLeases(): Promise<void> {
      const answers = liveAnswers.list();
      if (answers.length === 0) return;
      const keys = answers.map(({ generation }) => keyOf(generation));
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
        void start(generation, { requestId: null });
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
