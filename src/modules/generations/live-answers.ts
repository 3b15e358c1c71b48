import type { Lifecycle } from "../../lib/lifecycle.ts";
import type { AnswerSnapshot } from "../../realtime/remote-answers.ts";
import type { Lease, NewAnswer } from "../messages/service.ts";
import { FIRST_QUERY_ROWS } from "./context-queries.ts";
import { GENERATION_LEASE_DURATION_MS, type RunningAnswer } from "./running-answer.ts";

/** Maximum number of concurrent answers per instance. Further answers wait for a free slot on any instance. */
export const RUNNING_ANSWERS_MAX = 500;
/**
 * The contexts of a batch's answers are read in the transaction that stores the batch's messages, unless the batch has more answers than
 * this. Only short conversations' contexts are read there, so that no message waits for another conversation's long history. All other
 * contexts are read by separate queries. The byte limit is low because an instance may freeze before it has read the result. In that case,
 * the rows stay locked until its connection is closed.
 */
export const CONTEXT_BATCH_MAX = 32;
const contextLimits = { rowsMax: FIRST_QUERY_ROWS, seqMax: 40, bytesMax: 64 * 1024 };

/**
 * Tracks the answers that this instance is writing, and its free slots. The registry depends on no service. Therefore messages, sockets
 * and streams, which depend on the registry, can be created before the service that writes the answers.
 */
export interface LiveAnswerRegistry {
  /**
   * Reserves slots for a batch of new answers before their messages are stored. Returns null if there aren't enough free slots, or if this
   * instance is shutting down. Release the lease once the batch has been handed over or has failed.
   */
  acquireLease(answerCount: number): Lease | null;
  /** Hands over a committed answer to be written. Doesn't throw. */
  handOver(answer: NewAnswer): void;
  /** Sets the callback for answers that are handed over, including those that already were. Call it once. */
  onHandOver(onAnswer: (answer: NewAnswer) => void): void;

  /** Lists snapshots of a conversation's answers in progress. A new subscriber receives them and continues with the next delta. */
  listSnapshots(conversationId: string): AnswerSnapshot[];
  /** Returns the current text and reasoning of an answer that this instance is writing. They are newer than the stored ones. */
  findText(messageId: string): LiveText | null;

  /** Returns whether there are slots for this many more answers. */
  hasFreeSlots(answerCount: number): boolean;
  /** Counts the answers that are in progress or being claimed. */
  count(): number;
  /** Runs `work`, which claims a generation, with a slot reserved for it. */
  runClaim<T>(work: () => Promise<T>): Promise<T>;
  add(answer: RunningAnswer): void;
  /** Removes an answer, unless a later run of the same generation has replaced it. */
  remove(answer: RunningAnswer): void;
  find(generationId: string): RunningAnswer | undefined;
  findByMessage(messageId: string): RunningAnswer | undefined;
  list(): RunningAnswer[];
}

/** The text of a message while its answer is in progress. The reasoning is null if it won't be stored. */
type LiveText = { content: string; reasoning: string | null };

type Dependencies = {
  lifecycle: Lifecycle;
  /** The owner of this process's leases. */
  instanceId: string;
};

export function createLiveAnswerRegistry({ lifecycle, instanceId }: Dependencies): LiveAnswerRegistry {
  const byGeneration = new Map<string, RunningAnswer>();
  const byMessage = new Map<string, RunningAnswer>();
  const byConversation = new Map<string, Set<RunningAnswer>>();
  /** The number of generations that are being claimed. */
  let claimsInProgress = 0;
  /** The number of slots reserved for commits in flight. */
  let leasedSlots = 0;
  const bufferedAnswers: NewAnswer[] = [];
  let onNewAnswer: (answer: NewAnswer) => void = (answer) => bufferedAnswers.push(answer);

  const count = (): number => byGeneration.size + claimsInProgress;
  const hasFreeSlots = (answerCount: number): boolean => count() + leasedSlots + answerCount <= RUNNING_ANSWERS_MAX;

  return {
    acquireLease(answerCount) {
      if (lifecycle.phase === "draining" || !hasFreeSlots(answerCount)) return null;
      leasedSlots += answerCount;
      const context = { ...contextLimits, bytesMax: Math.floor(contextLimits.bytesMax / answerCount) };
      return {
        owner: instanceId,
        leaseMs: GENERATION_LEASE_DURATION_MS,
        context: answerCount <= CONTEXT_BATCH_MAX ? context : null,
        release() {
          leasedSlots -= answerCount;
        },
      };
    },

    handOver: (answer) => onNewAnswer(answer),
    onHandOver(onAnswer) {
      onNewAnswer = onAnswer;
      for (const answer of bufferedAnswers.splice(0)) onAnswer(answer);
    },

    listSnapshots: (conversationId) =>
      [...(byConversation.get(conversationId) ?? [])]
        .map(({ live }) => live)
        .filter(({ attempt }) => attempt > 0)
        .map((live) => ({
          messageId: live.messageId,
          seq: live.seq,
          attempt: live.attempt,
          text: live.text,
          reasoning: live.reasoning,
          frame: JSON.stringify(live.createSnapshot()),
        })),
    findText(messageId) {
      const live = byMessage.get(messageId)?.live;
      return live ? { content: live.text, reasoning: live.storedReasoning || null } : null;
    },

    hasFreeSlots,
    count,
    async runClaim(work) {
      claimsInProgress += 1;
      try {
        return await work();
      } finally {
        claimsInProgress -= 1;
      }
    },

    add(answer) {
      const { id, message_id, conversation_id } = answer.generation;
      byGeneration.set(id, answer);
      byMessage.set(message_id, answer);
      const siblings = byConversation.get(conversation_id) ?? new Set();
      byConversation.set(conversation_id, siblings.add(answer));
    },
    remove(answer) {
      const { id, message_id, conversation_id } = answer.generation;
      if (byGeneration.get(id) !== answer) return;
      byGeneration.delete(id);
      byMessage.delete(message_id);
      const siblings = byConversation.get(conversation_id);
      siblings?.delete(answer);
      if (siblings?.size === 0) byConversation.delete(conversation_id);
    },
    find: (generationId) => byGeneration.get(generationId),
    findByMessage: (messageId) => byMessage.get(messageId),
    list: () => [...byGeneration.values()],
  };
}
