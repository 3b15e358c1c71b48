import { type Database, getReservedPool, type Sql, withTransaction } from "../../db/client.ts";
import type { Log } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import type { Bus } from "../../realtime/bus.ts";
import { type AnswerEndDependencies, createAnswerEnds } from "./answer-end.ts";
import { type AnswerTextDependencies, createAnswerTexts } from "./answer-text.ts";
import type { FoundContext } from "./context-queries.ts";
import { createFlushInterval } from "./flush-interval.ts";
import { createFlushScheduler } from "./flush-scheduler.ts";
import { LiveAnswer } from "./live-answer.ts";
import type { LiveAnswers } from "./live-answers.ts";
import { createPieces, keyOf } from "./pieces.ts";
import * as queries from "./queries.ts";
import { createFailedEnd, INTERRUPTIONS_MAX } from "./refused-ends.ts";
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
/** Share of the shutdown time for waiting; the rest is for storing unfinished answers. */
const DRAIN_SHARE = 0.8;

export type RunnerDependencies = Omit<AnswerTextDependencies, "toolRuns"> &
  Omit<AnswerEndDependencies, "pieces" | "isDrained"> &
  Omit<ToolRunDependencies, "pieces"> & {
    database: Database;
    bus: Bus;
    liveAnswers: LiveAnswers;
    metrics: Metrics;
    log: Log;
    /** This process, as the owner of leases. */
    instanceId: string;
    /** An answer has ended here and its slot is free. */
    onEnd(): void;
    /** Whether reasoning is stored. */
    storesReasoning: boolean;
  };

/** Writes answers as independent tasks: readers may come and go, and the answer is written anyway. */
export function createRunner(deps: RunnerDependencies) {
  const { database, bus, liveAnswers, metrics, log, instanceId, onEnd, storesReasoning } = deps;
  const pieces = createPieces({ database });
  const texts = createAnswerTexts({ ...deps, toolRuns: createToolRuns({ ...deps, pieces }) });
  const ends = createAnswerEnds({ ...deps, pieces, isDrained: () => isDrained });
  const flushes = createFlushScheduler(createFlushInterval());
  let isDrained = false;

  async function write(answer: RunningAnswer, found: FoundContext | undefined): Promise<void> {
    const startedAtMs = performance.now();
    const isExhausted = answer.generation.interruptions >= INTERRUPTIONS_MAX;
    const ended = isExhausted
      ? createFailedEnd(answer.live, answer.stop === "cancel")
      : await texts.write(answer, found);
    answer.live.flush();
    const final = await ends.end(answer, ended);
    if (!final) return;
    const model = final.model ?? "none";
    metrics.generations.inc({ model, outcome: final.status });
    metrics.generationDuration.observe({ model }, (performance.now() - startedAtMs) / 1000);
  }

  /**
   * Writes a claimed generation to its end. The claim is the right to write. Doesn't throw.
   * @param requestId the request that it answers, if known, for the log.
   * @param found the context, if it was read with the commit of the question.
   */
  function begin(generation: queries.ClaimedGeneration, requestId: string | null, found?: FoundContext): Promise<void> {
    // If a lease expired while the database was unavailable, the earlier task must not continue alongside this one.
    const before = liveAnswers.find(generation.id);
    if (before) stopAnswer(before, "release");
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
    const answer = createRunningAnswer(generation, live, requestId);
    liveAnswers.add(answer);
    if (generation.is_cancelled) stopAnswer(answer, "cancel");
    // It was being claimed when the shutdown began.
    if (isDrained) stopAnswer(answer, "release");
    answer.done = write(answer, found)
      .catch((error) => log.error({ err: error, ...answerLogFields(answer) }, "generation failed"))
      .finally(() => {
        liveAnswers.remove(answer);
        onEnd();
      });
    return answer.done;
  }

  // A shortcut: without it, a stop takes effect when the leases are renewed.
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
     * Claims a new generation and writes it, unless another instance was faster. Claims run one at a time, because those of
     * a whole batch would delay everyone's writes.
     */
    async claim({ requestId = null, ...key }: KnownGeneration): Promise<void> {
      const claim = (sql: Sql) => queries.claimGeneration(sql, key, instanceId, GENERATION_LEASE_MS);
      const generation = await liveAnswers.claim(() => withTransaction(database, claim, "claims"));
      if (generation) await begin(generation, requestId);
    },

    /** Stores the new text of all answers written here, from which a successor would continue. */
    storePieces: (): Promise<void> => pieces.append(liveAnswers.list()),

    /** Renews the leases, and applies stored stops. */
    async renewLeases(): Promise<void> {
      const answers = liveAnswers.list();
      if (answers.length === 0) return;
      const held = answers.map(({ generation }) => keyOf(generation));
      const rows = await queries.renewGenerations(getReservedPool(database), instanceId, held, leaseTimes);
      const kept = new Map(rows.map((row) => [row.id, row]));
      for (const answer of answers) {
        const row = kept.get(answer.generation.id);
        // A missing lease belongs to another instance, or the message was deleted: nothing more may be written.
        if (!row) stopAnswer(answer, "release");
        else if (row.is_cancelled) stopAnswer(answer, "cancel");
      }
    },

    /** Takes over what dead instances left behind. */
    async takeOrphans(rowsMax: number): Promise<void> {
      for (const generation of await queries.claimOrphans(database, instanceId, GENERATION_LEASE_MS, rowsMax)) {
        log.info({ message_id: generation.message_id, attempt: generation.attempt }, "generation taken over");
        void begin(generation, null);
      }
    },

    /**
     * Waits for the answers in progress; those left are released to a successor shortly before `deadlineMs` (since 1970).
     */
    async drain(deadlineMs: number): Promise<void> {
      const all = () => Promise.all(liveAnswers.list().map(({ done }) => done));
      await Promise.race([all(), Bun.sleep(Math.max(0, deadlineMs - Date.now()) * DRAIN_SHARE)]);
      isDrained = true;
      for (const answer of liveAnswers.list()) stopAnswer(answer, "release");
      await all();
    },

    /** Closes the connections that waited for locks. */
    close: ends.close,
  };
}
