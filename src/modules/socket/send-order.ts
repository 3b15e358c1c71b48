import type { SendSlot } from "../messages/service.ts";

/**
 * Submits a connection's messages to a conversation in the order of their frames, even if validating one takes longer than the next.
 * Messages to other conversations don't wait, and no message waits for a commit.
 */
export class SendOrder {
  /** For each conversation, a promise that resolves when the last message has been submitted. */
  readonly #last = new Map<string, Promise<void>>();

  run<T>(conversationId: string, send: (slot: SendSlot) => Promise<T>): Promise<T> {
    const previous = this.#last.get(conversationId);
    let isSubmitted = false;
    let resolveSubmitted = () => {};
    const onSubmit = () => {
      isSubmitted = true;
      resolveSubmitted();
    };
    const sending = send({ previous, onSubmit });
    // Usually, the message has already been submitted, so later ones don't have to wait.
    if (isSubmitted) return sending;
    const submitted = new Promise<void>((resolve) => {
      resolveSubmitted = resolve;
    });
    this.#last.set(conversationId, submitted);
    // A refused message also unblocks the next one, after the previous one has been submitted.
    const unblockNext = () => (previous ? previous.then(resolveSubmitted) : resolveSubmitted());
    sending.then(unblockNext, unblockNext);
    void submitted.then(() => {
      if (this.#last.get(conversationId) === submitted) this.#last.delete(conversationId);
    });
    return sending;
  }
}
