import type { Lifecycle } from "../../lib/lifecycle.ts";
import type { AnswerSnapshot } from "../../realtime/remote-answers.ts";
import type { Lease, NewAnswer } from "../messages/service.ts";
import { FIRST_QUERY_ROWS } from "./context-queries.ts";
import { GENERATION_LEASE_DURATION_MS, type RunningAnswer } from "./running-answer.ts";

/** Maximum number of concurrent answers per instance. Others wait for a free slot on any instance. */
export const RUNNING_ANSWERS_MAX = 500;
/**
 * Maximum number of answers in a batch whose contexts are read in the transaction that stores the messages. Only short conversations'
 * contexts are read there, so that no message waits for another conversation's long history. The others are read by separate queries. The
 * byte limit is low, because if an instance freezes before it has read the result, the rows stay locked until its connection is closed.
 */
export const CONTEXT_BATCH_MAX = 32;
const contextLimits = { rowsMax: FIRST_QUERY_ROWS, seqMax: 40, bytesMax: 64 * 1024 };

/**
 * Tracks the answers that this instance is writing, and its free slots. It depends on no service, so that its dependents (messages,
 * sockets, streams) can be created before the service that writes the answers.
 */
export interface LiveAnswers {
  /**
   * Reserves slots for a batch of new answers before their messages are stored. Returns null if there aren't enough free slots, or if this
   * instance is shutting down. Release the lease once the batch is handed over or has failed.
   */
  acquireLease(answers: number): Lease | null;
  /** Hands over a committed answer to be written. Doesn't throw. */
  handOver(answer: NewAnswer): void;
  /** Sets the callback for answers that are handed over, including earlier ones. Call it once. */
  onHandOver(onAnswer: (answer: NewAnswer) => void): void;

  /** Lists snapshots of a conversation's answers in progress. A new subscriber receives them and continues with the next delta. */
  listSnapshots(conversationId: string): AnswerSnapshot[];
  /** Returns the current text and reasoning of an answer that this instance is writing. They are newer than the stored ones. */
  findText(messageId: string): LiveText | null;

  /** Returns whether there are slots for this many more answers. */
  hasFreeSlots(answers: number): boolean;
  /** Counts the answers that are in progress or about to start. */
  count(): number;
  /** Reserves a slot while a generation is being claimed. */
  claim<T>(work: () => Promise<T>): Promise<T>;
  add(answer: RunningAnswer): void;
  /** Removes an answer, unless another one has replaced it. */
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

export function createLiveAnswers({ lifecycle, instanceId }: Dependencies): LiveAnswers {
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
  const hasFreeSlots = (answers: number): boolean => count() + leasedSlots + answers <= RUNNING_ANSWERS_MAX;

  return {
    acquireLease(answers) {
      if (lifecycle.phase === "draining" || !hasFreeSlots(answers)) return null;
      leasedSlots += answers;
      const context = { ...contextLimits, bytesMax: Math.floor(contextLimits.bytesMax / answers) };
      return {
        owner: instanceId,
        leaseMs: GENERATION_LEASE_DURATION_MS,
        context: answers <= CONTEXT_BATCH_MAX ? context : null,
        release() {
          leasedSlots -= answers;
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
    async claim(work) {
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
