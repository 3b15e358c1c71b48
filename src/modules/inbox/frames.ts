import type { Push } from "../../protocol/pushes.ts";
import type { ChangeNote, PendingFrame } from "./pending.ts";
import type { InboxState } from "./queries.ts";

/** The frame for a member. */
export function createFrame(state: InboxState, { isAdded, removed }: ChangeNote): Push<"inbox"> {
  const { conversation_id, title, last_seq, last_read_seq, unread, updated_at } = state;
  return {
    type: "inbox",
    conversation_id,
    // Removed and added again between two frames: the conversation is new to the user.
    change: isAdded || removed ? "added" : "updated",
    title,
    last_seq,
    last_read_seq,
    unread,
    updated_at: updated_at.toISOString(),
  };
}

/** The frame for a former member. It says nothing about changes after the membership ended. */
export function createRemovedFrame({ conversation_id, details }: PendingFrame, sentSeq: number): Push<"inbox"> {
  const seq = details.removed?.seq ?? sentSeq;
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
