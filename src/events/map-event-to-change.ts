import type { DurableEvent } from "../protocol/events.ts";
import type { ConversationsMessage } from "../realtime/bus.ts";

/** Maps an event to the message that announces it to all instances, without its content. */
export function mapEventToChange(event: DurableEvent): ConversationsMessage {
  const { conversation_id, seq, at } = event;
  const change = { type: "conversation.changed", conversation_id, event: event.type, seq, at } as const;
  switch (event.type) {
    case "message.created":
      return event.data.author?.kind === "user" ? { ...change, user_id: event.data.author.id } : change;
    case "member.added": {
      const { user_id, joined_at } = event.data;
      // A new member joins at the time of the event. A change of role keeps the original time.
      return { ...change, user_id, ...(joined_at === at && { joined: true }) };
    }
    case "member.removed":
      return { ...change, user_id: event.data.user_id };
    case "conversation.updated":
      return { ...change, title: event.data.title };
    default:
      return change;
  }
}
