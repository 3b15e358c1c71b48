import type { DurableEvent, DurableEventType } from "../../src/protocol/events.ts";

/** An event of which only what a test names matters; the rest of its data is left out. */
export const createTestEvent = (
  conversationId: string,
  seq: number,
  type: DurableEventType = "message.created",
  data: Record<string, unknown> = {},
): DurableEvent =>
  ({ type, conversation_id: conversationId, seq, at: "2026-01-01T00:00:00.000Z", data }) as unknown as DurableEvent;
