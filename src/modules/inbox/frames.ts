import type { Push } from "../../protocol/pushes.ts";
import type { ChangeDetails, PendingFrame } from "./pending.ts";
import type { InboxState } from "./queries.ts";

/** Creates an inbox frame for a member. */
export function createChangeFrame(state: InboxState, { isAdded, removed }: ChangeDetails): Push<"inbox"> {
  const { conversation_id, title, last_seq, last_read_seq, unread, updated_at } = state;
  return {
    type: "inbox",
    conversation_id,
    // A user who was removed and added again since the last frame receives `added`.
    change: isAdded || removed ? "added" : "updated",
    title,
    last_seq,
    last_read_seq,
    unread,
    updated_at: updated_at.toISOString(),
  };
}

/** Creates an inbox frame for a removed member. It reveals nothing about changes after the removal. */
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
