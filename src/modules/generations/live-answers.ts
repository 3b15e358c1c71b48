import type { Lifecycle } from "../../lib/lifecycle.ts";
import type { AnswerSnapshot } from "../../realtime/remote-answers.ts";
import type { Lease, NewAnswer } from "../messages/service.ts";
import { FIRST_PATH_ROWS } from "./context-queries.ts";
import { GENERATION_LEASE_MS, type RunningAnswer } from "./running-answer.ts";

/** Answers that one instance writes at the same time; more wait for a free place, here or elsewhere. */
export const RUNNING_MAX = 500;
/**
 * Contexts are read with the commit only where that takes no time to speak of: in batches of up to so many answers, of
 * short conversations. Read apart, they cost Postgres as much, and the instance a request for each. Others are read apart,
 * so that no send waits for the long history of another. A batch reads few bytes of them: a result that an instance does
 * not take, because it is frozen, keeps the locks of the batch until the connection is cut off.
 */
export const CONTEXT_BATCH_MAX = 32;
const contextLimits = { rows: FIRST_PATH_ROWS, seqMax: 40, bytesMax: 64 * 1024 };

/**
 * The answers that this instance writes, and the places for more of them. It depends on no service, so that whatever has
 * to know of answers in progress can be built before the service that writes them: messages, sockets, streams.
 */
export interface LiveAnswers {
  /**
   * For the sender of messages: a lease on the answers of a whole batch, where there is room for all of them, and they
   * may begin here. It has to be ended once the batch is handed over, or has failed.
   */
  takeLease(answers: number): Lease | null;
  /** For the sender of messages: hands over an answer that is committed. Nothing is thrown. */
  handOver(answer: NewAnswer): void;
  /** For the generation service, once: gives it every answer that is handed over, also before this. */
  takeOver(take: (answer: NewAnswer) => void): void;

  /** What new listeners of a conversation need to go on with the next delta. */
  listSnapshots(conversationId: string): AnswerSnapshot[];
  /** The text and the reasoning so far of an answer that is being written here; what is stored lags behind. */
  findText(messageId: string): LiveText | null;

  /** Whether so many more answers may begin. */
  hasRoom(answers: number): boolean;
  /** How many are being written, with those that are about to begin. */
  count(): number;
  /** Keeps a place while a generation is being claimed. */
  claim<T>(work: () => Promise<T>): Promise<T>;
  add(answer: RunningAnswer): void;
  /** Does nothing when another one has taken its place. */
  remove(answer: RunningAnswer): void;
  find(generationId: string): RunningAnswer | undefined;
  findByMessage(messageId: string): RunningAnswer | undefined;
  list(): RunningAnswer[];
}

/** What a message shows of an answer in progress: reasoning only if it is stored at the end, too. */
type LiveText = { content: string; reasoning: string | null };

type Dependencies = {
  lifecycle: Lifecycle;
  /** This process, as the owner of leases. */
  instanceId: string;
};

/** Builds the empty list. */
export function createLiveAnswers({ lifecycle, instanceId }: Dependencies): LiveAnswers {
  const byGeneration = new Map<string, RunningAnswer>();
  const byMessage = new Map<string, RunningAnswer>();
  const byConversation = new Map<string, Set<RunningAnswer>>();
  /** Generations that are being claimed, and answers that may begin with the commits in flight. */
  let claiming = 0;
  let leased = 0;
  const early: NewAnswer[] = [];
  let takeNew: (answer: NewAnswer) => void = (answer) => early.push(answer);

  const count = (): number => byGeneration.size + claiming;
  const hasRoom = (answers: number): boolean => count() + leased + answers <= RUNNING_MAX;

  return {
    takeLease(answers) {
      if (lifecycle.phase === "draining" || !hasRoom(answers)) return null;
      leased += answers;
      const context = { ...contextLimits, bytesMax: Math.floor(contextLimits.bytesMax / answers) };
      return {
        owner: instanceId,
        leaseMs: GENERATION_LEASE_MS,
        context: answers <= CONTEXT_BATCH_MAX ? context : null,
        end() {
          leased -= answers;
        },
      };
    },

    handOver: (answer) => takeNew(answer),
    takeOver(take) {
      takeNew = take;
      for (const answer of early.splice(0)) take(answer);
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
