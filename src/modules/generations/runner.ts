import { type Database, getReservedPool, type Sql, withTransaction } from "../../db/client.ts";
import type { Log } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import { formatTraceparent, parseTraceparent } from "../../lib/tracing/traceparent.ts";
import { failSpan, type Span, type SpanContext, type Tracing } from "../../lib/tracing/tracing.ts";
import type { Bus } from "../../realtime/bus.ts";
import { type AnswerFinalizerDependencies, createAnswerFinalizer } from "./answer-finalizer.ts";
import { type AnswerTextDependencies, createAnswerTexts } from "./answer-text.ts";
import type { FoundContext } from "./context-queries.ts";
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
  GENERATION_LEASE_MS,
  type RunningAnswer,
  stopAnswer,
} from "./running-answer.ts";
import { createToolRuns, type ToolRunDependencies } from "./tool-runs.ts";
import type { KnownGeneration } from "./waiting-answers.ts";

/** Leases are checked twice a second, but written only every two seconds. */
const leaseTimes = { leaseMs: GENERATION_LEASE_MS, enoughMs: GENERATION_LEASE_MS - 1_500 };
/** The share of the shutdown time spent on waiting for answers; the rest is for storing unfinished ones. */
const DRAIN_SHARE = 0.8;

export type RunnerDependencies = Omit<AnswerTextDependencies, "toolRuns"> &
  Omit<AnswerFinalizerDependencies, "pieces" | "isDrained"> &
  Omit<ToolRunDependencies, "pieces"> & {
    database: Database;
    bus: Bus;
    liveAnswers: LiveAnswers;
    metrics: Metrics;
    log: Log;
    /** Absent or null if traces are off. */
    tracing?: Tracing | null;
    /** This process, as the owner of leases. */
    instanceId: string;
    /** Called when an answer has ended on this instance and its slot is free. */
    onEnd(): void;
    /** Whether reasoning is stored. */
    storesReasoning: boolean;
  };

/** What the caller knows about a generation when it starts. */
type StartContext = {
  /** The id of the request that it answers, for the log; null if unknown. */
  requestId: string | null;
  /** The span of that request. */
  trace?: SpanContext | undefined;
  /** The context, if it was read when the question was committed. */
  found?: FoundContext | undefined;
};

/** Writes answers as independent tasks, which continue no matter which readers come and go. */
export function createRunner(deps: RunnerDependencies) {
  const { database, bus, liveAnswers, metrics, log, tracing = null, instanceId, onEnd, storesReasoning } = deps;
  const pieces = createPieces({ database });
  const texts = createAnswerTexts({ ...deps, toolRuns: createToolRuns({ ...deps, pieces }) });
  const finalizer = createAnswerFinalizer({ ...deps, pieces, isDrained: () => isDrained });
  const flushes = createFlushScheduler(createFlushInterval());
  let isDrained = false;

  /** Writes the answer in a span of its request's trace, even if that request was handled by an instance that died. */
  function traceAnswer(answer: RunningAnswer, { trace, found }: StartContext): Promise<void> {
    if (!tracing) return write(answer, found);
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
      return write(answer, found, span);
    });
  }

  async function write(answer: RunningAnswer, found: FoundContext | undefined, span?: Span): Promise<void> {
    const startedAtMs = performance.now();
    const isInterruptedTooOften = answer.generation.interruptions >= INTERRUPTIONS_MAX;
    const ended = isInterruptedTooOften
      ? createInterruptedState(answer.live, answer.stop === "cancel")
      : await texts.write(answer, found);
    answer.live.flush();
    const final = await finalizer.finalize(answer, ended);
    span?.setAttribute("parley.generation.outcome", final?.status ?? "released");
    if (span && final?.error) failSpan(span, final.error.code);
    if (!final) return;
    const model = final.model ?? "none";
    metrics.generations.inc({ model, outcome: final.status });
    metrics.generationDuration.observe({ model }, (performance.now() - startedAtMs) / 1000);
  }

  /**
   * Writes a claimed generation until it has ended. Only the instance with the claim may write. Doesn't throw.
   */
  function begin(generation: queries.ClaimedGeneration, startContext: StartContext): Promise<void> {
    // If a lease expired while the database was unavailable, the earlier task must not continue alongside this one.
    const earlier = liveAnswers.find(generation.id);
    if (earlier) stopAnswer(earlier, "release");
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
    if (isDrained) stopAnswer(answer, "release");
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
    begin,

    /**
     * Claims a new generation and writes it, unless another instance was faster. Claims run one at a time, because
     * concurrent claims of a whole batch would delay all other writes.
     */
    async claim({ requestId = null, trace, ...key }: KnownGeneration): Promise<void> {
      const claim = (sql: Sql) => queries.claimGeneration(sql, key, instanceId, GENERATION_LEASE_MS);
      const generation = await liveAnswers.claim(() => withTransaction(database, claim, "claims"));
      if (generation) await begin(generation, { requestId, trace });
    },

    /** Stores the new text of all answers that this instance writes, from which a successor would continue. */
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
        // If the lease is missing, another instance has it, or the message was deleted: this one must not write any more.
        if (!row) stopAnswer(answer, "release");
        else if (row.is_cancelled) stopAnswer(answer, "cancel");
      }
    },

    /** Takes over answers that dead instances left unfinished. */
    async takeOverOrphans(rowsMax: number): Promise<void> {
      for (const generation of await queries.claimOrphans(database, instanceId, GENERATION_LEASE_MS, rowsMax)) {
        log.info({ message_id: generation.message_id, attempt: generation.attempt }, "generation taken over");
        void begin(generation, { requestId: null });
      }
    },

    /**
     * Waits for the answers in progress. Shortly before `deadlineMs` (milliseconds since 1970), releases the unfinished
     * ones to a successor.
     */
    async drain(deadlineMs: number): Promise<void> {
      const all = () => Promise.all(liveAnswers.list().map(({ done }) => done));
      await Promise.race([all(), Bun.sleep(Math.max(0, deadlineMs - Date.now()) * DRAIN_SHARE)]);
      isDrained = true;
      for (const answer of liveAnswers.list()) stopAnswer(answer, "release");
      await all();
    },

    /** Closes the connections for commits. */
    close: finalizer.close,
  };
}
