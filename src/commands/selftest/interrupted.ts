import type { TestUser } from "./rest.ts";
import type { ClientSocket, Frame } from "./socket.ts";

/** What was going on when the server was killed. */
export type Interrupted = {
  /** On the clock of `performance.now()`. */
  killedAtMs: number;
  /** An answer that was being written, what its reader had received, and the reader's socket to the next server. */
  answer: { conversationId: string; id: string; frames: readonly Frame[]; reader: ClientSocket };
  /** Many readers of one conversation. */
  storm: { conversationId: string; readers: StormReader[] };
  loadConversationId: string;
};

export type StormReader = {
  account: TestUser;
  /** The numbers of the events that it has received. */
  seqs: number[];
};
