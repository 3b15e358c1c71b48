import type { SendSlot } from "../messages/service.ts";

/**
 * Submits one connection's messages to a conversation in frame order, even if one takes longer to validate than the
 * next. Messages to other conversations don't wait, and nothing waits for a commit.
 */
export class SendOrder {
  /** By conversation: a promise that resolves when the last message has been submitted. */
  readonly #last = new Map<string, Promise<void>>();

  run<T>(conversationId: string, send: (slot: SendSlot) => Promise<T>): Promise<T> {
    const previous = this.#last.get(conversationId);
    let isSubmitted = false;
    let resolveSubmitted = () => {};
    const onSubmit = () => {
      isSubmitted = true;
      resolveSubmitted();
    };
    const sent = send({ previous, onSubmit });
    // The usual case: later messages don't have to wait for this one.
    if (isSubmitted) return sent;
    const submitted = new Promise<void>((resolve) => {
      resolveSubmitted = resolve;
    });
    this.#last.set(conversationId, submitted);
    // A refused message unblocks the next one, but not before the previous one has been submitted.
    const unblockNext = () => (previous ? previous.then(resolveSubmitted) : resolveSubmitted());
    sent.then(unblockNext, unblockNext);
    void submitted.then(() => {
      if (this.#last.get(conversationId) === submitted) this.#last.delete(conversationId);
    });
    return sent;
  }
}
