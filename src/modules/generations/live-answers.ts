import type { Lifecycle } from "../../lib/lifecycle.ts";
import type { AnswerSnapshot } from "../../realtime/remote-answers.ts";
import type { Lease, NewAnswer } from "../messages/service.ts";
import { FIRST_PATH_ROWS } from "./context-queries.ts";
import { GENERATION_LEASE_MS, type RunningAnswer } from "./running-answer.ts";

/** Maximum concurrent answers per instance; others wait for a free slot on any instance. */
export const RUNNING_MAX = 500;
/**
 * Contexts are read with the commit of the messages for batches of up to this many answers, and only in short
 * conversations, because no message should wait for another conversation's long history. Otherwise contexts are read
 * separately, which costs one more query each. A batch reads few bytes: if an instance freezes before it reads the
 * result, the batch's locks are held until its connection is closed.
 */
export const CONTEXT_BATCH_MAX = 32;
const contextLimits = { rows: FIRST_PATH_ROWS, seqMax: 40, bytesMax: 64 * 1024 };

/**
 * The answers that this instance writes, and its free slots. Depends on no service, so that everything that needs to know
 * about answers in progress (messages, sockets, streams) can be built before the service that writes them.
 */
export interface LiveAnswers {
  /**
   * Leases a batch of new answers for the sender of messages; null if there aren't enough free slots, or if this
   * instance is shutting down. End the lease once the batch is handed over or has failed.
   */
  acquireLease(answers: number): Lease | null;
  /** Hands over a committed answer from the sender of messages. Doesn't throw. */
  handOver(answer: NewAnswer): void;
  /** Registers the generation service, once. It receives every answer that is handed over, including earlier ones. */
  onHandOver(onAnswer: (answer: NewAnswer) => void): void;

  /** Lists snapshots with which a conversation's new subscribers can continue with the next delta. */
  listSnapshots(conversationId: string): AnswerSnapshot[];
  /** The current text and reasoning of an answer that this instance writes; what is stored lags behind. */
  findText(messageId: string): LiveText | null;

  /** Whether this many more answers may start. */
  hasFreeSlots(answers: number): boolean;
  /** The number of answers in progress or about to start. */
  count(): number;
  /** Reserves a slot while a generation is being claimed. */
  claim<T>(work: () => Promise<T>): Promise<T>;
  add(answer: RunningAnswer): void;
  /** Does nothing if another answer has replaced it. */
  remove(answer: RunningAnswer): void;
  find(generationId: string): RunningAnswer | undefined;
  findByMessage(messageId: string): RunningAnswer | undefined;
  list(): RunningAnswer[];
}

/** What a message contains while its answer is in progress; reasoning only if it will be stored. */
type LiveText = { content: string; reasoning: string | null };

type Dependencies = {
  lifecycle: Lifecycle;
  /** This process, as the owner of leases. */
  instanceId: string;
};

export function createLiveAnswers({ lifecycle, instanceId }: Dependencies): LiveAnswers {
  const byGeneration = new Map<string, RunningAnswer>();
  const byMessage = new Map<string, RunningAnswer>();
  const byConversation = new Map<string, Set<RunningAnswer>>();
  /** Generations being claimed. */
  let claiming = 0;
  /** Answers that may start with the commits in flight. */
  let leased = 0;
  const buffered: NewAnswer[] = [];
  let onNewAnswer: (answer: NewAnswer) => void = (answer) => buffered.push(answer);

  const count = (): number => byGeneration.size + claiming;
  const hasFreeSlots = (answers: number): boolean => count() + leased + answers <= RUNNING_MAX;

  return {
    acquireLease(answers) {
      if (lifecycle.phase === "draining" || !hasFreeSlots(answers)) return null;
      leased += answers;
      const context = { ...contextLimits, bytesMax: Math.floor(contextLimits.bytesMax / answers) };
      return {
        owner: instanceId,
        leaseMs: GENERATION_LEASE_MS,
        context: answers <= CONTEXT_BATCH_MAX ? context : null,
        release() {
          leased -= answers;
        },
      };
    },

    handOver: (answer) => onNewAnswer(answer),
    onHandOver(onAnswer) {
      onNewAnswer = onAnswer;
      for (const answer of buffered.splice(0)) onAnswer(answer);
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
          frame: JSON.stringify(live.snapshot()),
        })),
    findText(messageId) {
      const live = byMessage.get(messageId)?.live;
      return live ? { content: live.text, reasoning: live.storedReasoning || null } : null;
    },

    hasFreeSlots,
    count,
    async claim(work) {
      claiming += 1;
      try {
        return await work();
      } finally {
        claiming -= 1;
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
