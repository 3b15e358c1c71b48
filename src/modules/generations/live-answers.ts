import type { Lifecycle } from "../../lib/lifecycle.ts";
import type { AnswerSnapshot } from "../../realtime/remote-answers.ts";
import type { Lease, NewAnswer } from "../messages/service.ts";
import { FIRST_PATH_ROWS } from "./context-queries.ts";
import { GENERATION_LEASE_MS, type RunningAnswer } from "./running-answer.ts";

/** Concurrent answers per instance; others wait for a free slot, here or elsewhere. */
export const RUNNING_MAX = 500;
/**
 * Contexts are read together with the commit only if that takes no noticeable time: for batches of up to this many answers,
 * in short conversations. Reading them separately costs Postgres the same, and the instance one query each. Others are read
 * separately, so that no send waits for another one's long history. A batch reads few bytes of them: if a frozen instance
 * doesn't read the result, the batch's locks are held until its connection is closed.
 */
export const CONTEXT_BATCH_MAX = 32;
const contextLimits = { rows: FIRST_PATH_ROWS, seqMax: 40, bytesMax: 64 * 1024 };

/**
 * The answers that this instance writes, and its free slots. Depends on no service, so that everything that needs to know
 * about answers in progress (messages, sockets, streams) can be built before the service that writes them.
 */
export interface LiveAnswers {
  /**
   * For the sender of messages: leases the answers of a whole batch, if there is room for all of them and this instance
   * accepts new ones. End it once the batch is handed over or has failed.
   */
  acquireLease(answers: number): Lease | null;
  /** For the sender of messages: hands over a committed answer. Doesn't throw. */
  handOver(answer: NewAnswer): void;
  /** For the generation service, once: receives every answer that is handed over, including earlier ones. */
  onHandOver(onAnswer: (answer: NewAnswer) => void): void;

  /** Snapshots that let new listeners of a conversation continue with the next delta. */
  listSnapshots(conversationId: string): AnswerSnapshot[];
  /** The text and reasoning so far of an answer written here; the stored state lags behind. */
  findText(messageId: string): LiveText | null;

  /** Whether this many more answers may start. */
  hasRoom(answers: number): boolean;
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

/** What a message shows of an answer in progress: reasoning only if it will be stored. */
type LiveText = { content: string; reasoning: string | null };

type Dependencies = {
  lifecycle: Lifecycle;
  /** This process, as the owner of leases. */
  instanceId: string;
};

/** Creates the empty list. */
export function createLiveAnswers({ lifecycle, instanceId }: Dependencies): LiveAnswers {
  const byGeneration = new Map<string, RunningAnswer>();
  const byMessage = new Map<string, RunningAnswer>();
  const byConversation = new Map<string, Set<RunningAnswer>>();
  /** Generations being claimed, and answers that may start with the commits in flight. */
  let claiming = 0;
  let leased = 0;
  const buffered: NewAnswer[] = [];
  let onNewAnswer: (answer: NewAnswer) => void = (answer) => buffered.push(answer);

  const count = (): number => byGeneration.size + claiming;
  const hasRoom = (answers: number): boolean => count() + leased + answers <= RUNNING_MAX;

  return {
    acquireLease(answers) {
      if (lifecycle.phase === "draining" || !hasRoom(answers)) return null;
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
    onHandOver(take) {
      onNewAnswer = take;
      for (const answer of buffered.splice(0)) take(answer);
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

    hasRoom,
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
