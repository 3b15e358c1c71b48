import type { Push } from "../../protocol/pushes.ts";
import type { ChangeNote, PendingFrame } from "./pending.ts";
import type { InboxState } from "./queries.ts";

/** Creates the frame for a member. */
export function createFrame(state: InboxState, { isAdded, removed }: ChangeNote): Push<"inbox"> {
  const { conversation_id, title, last_seq, last_read_seq, unread, updated_at } = state;
  return {
    type: "inbox",
    conversation_id,
    // If the user was removed and added again between two frames, the conversation is new to them.
    change: isAdded || removed ? "added" : "updated",
    title,
    last_seq,
    last_read_seq,
    unread,
    updated_at: updated_at.toISOString(),
  };
}

/** Creates the frame for a former member. It reveals nothing about changes after the membership ended. */
export function createRemovedFrame({ conversation_id, details }: PendingFrame, lastSentSeq: number): Push<"inbox"> {
  const seq = details.removed?.seq ?? lastSentSeq;
  return {
    type: "inbox",
    conversation_id,
    change: "removed",
    title: "",
    last_seq: seq,
    last_read_seq: seq,
    unread: 0,
    updated_at: details.removed?.at ?? new Date().toISOString(),
  };
}
