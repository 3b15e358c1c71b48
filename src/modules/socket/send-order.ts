import type { SendSlot } from "../messages/service.ts";

/**
 * Passes on one connection's messages to a conversation in frame order, even if one takes longer to check than the next.
 * Other conversations don't wait for it, and nothing waits for a commit.
 */
export class SendOrder {
  /** By conversation: resolves when the last message being checked has its place in the order. */
  readonly #last = new Map<string, Promise<void>>();

  run<T>(conversationId: string, send: (slot: SendSlot) => Promise<T>): Promise<T> {
    const previous = this.#last.get(conversationId);
    let isOver = false;
    let end = () => {};
    const onSubmit = () => {
      isOver = true;
      end();
    };
    const sent = send({ previous, onSubmit });
    // The usual case: nothing to wait for.
    if (isOver) return sent;
    const over = new Promise<void>((resolve) => {
      end = resolve;
    });
    this.#last.set(conversationId, over);
    // A refused message unblocks the next one, but not before the previous message has its place.
    const leave = () => (previous ? previous.then(end) : end());
    sent.then(leave, leave);
    void over.then(() => {
      if (this.#last.get(conversationId) === over) this.#last.delete(conversationId);
    });
    return sent;
  }
}
