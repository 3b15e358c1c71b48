import type { Account } from "./rest.ts";
import type { Frame, Socket } from "./socket.ts";

/** What was going on when the server was killed. */
export type Interrupted = {
  /** On the clock of `performance.now()`. */
  killedAtMs: number;
  /** An answer that was being written, what its reader had received, and the reader's socket to the next server. */
  answer: { conversationId: string; id: string; frames: readonly Frame[]; reader: Socket };
  /** Many readers of one conversation. */
  storm: { conversationId: string; readers: StormReader[] };
  loadConversationId: string;
};

export type StormReader = {
  account: Account;
  /** The numbers of the events that it has received. */
  seqs: number[];
};
