import type { SendSlot } from "../messages/service.ts";

/**
 * Submits a connection's messages to a conversation in the order of their frames, even if validating one message takes longer than
 * validating the next. Messages to other conversations don't wait, and no message waits for a commit.
 */
export class SendOrder {
  /** For each conversation, a promise that resolves when the last message has been submitted. */
  readonly #lastSubmitted = new Map<string, Promise<void>>();

  run<T>(conversationId: string, send: (slot: SendSlot) => Promise<T>): Promise<T> {
    const previousSubmitted = this.#lastSubmitted.get(conversationId);
    let isSubmitted = false;
    let resolveSubmitted = () => {};
    const onSubmit = () => {
      isSubmitted = true;
      resolveSubmitted();
    };
    const sending = send({ previousSubmitted, onSubmit });
    // Usually, the message has already been submitted, so later messages don't have to wait.
    if (isSubmitted) return sending;
    const submitted = new Promise<void>((resolve) => {
      resolveSubmitted = resolve;
    });
    this.#lastSubmitted.set(conversationId, submitted);
    // A rejected message also unblocks the next message, after the previous message has been submitted.
    const unblockNext = () => (previousSubmitted ? previousSubmitted.then(resolveSubmitted) : resolveSubmitted());
    sending.then(unblockNext, unblockNext);
    void submitted.then(() => {
      if (this.#lastSubmitted.get(conversationId) === submitted) this.#lastSubmitted.delete(conversationId);
    });
    return sending;
  }
}
