import type { TestUser } from "./rest.ts";
import type { ClientSocket, Frame } from "./socket.ts";

/** The work that was in progress when the server was killed. */
export type InterruptedWork = {
  /** The time of the kill, as returned by `performance.now()`. */
  killedAtMs: number;
  /** An unfinished answer, the frames that its reader had received, and the reader's socket to the restarted server. */
  answer: { conversationId: string; id: string; frames: readonly Frame[]; reader: ClientSocket };
  /** A conversation with many readers, which will all reconnect simultaneously. */
  storm: { conversationId: string; readers: StormReader[] };
  loadConversationId: string;
};

export type StormReader = {
  account: TestUser;
  /** The sequence numbers of the events that the reader has received. */
  seqs: number[];
};
