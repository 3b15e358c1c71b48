import type { SendTurn } from "../messages/service.ts";

/**
 * What one connection sends into one conversation is handed on in the order of its frames, also if one of them is checked for
 * longer than the next. Other conversations do not wait for it, and nobody waits for a commit.
 */
export class SendOrder {
  /** By conversation: when the last message that is still being checked has its place. */
  readonly #last = new Map<string, Promise<void>>();

  run<T>(conversationId: string, send: (turn: SendTurn) => Promise<T>): Promise<T> {
    const before = this.#last.get(conversationId);
    let isOver = false;
    let end = () => {};
    const onSubmit = () => {
      isOver = true;
      end();
    };
    const sent = send({ before, onSubmit });
    // The usual case: there was nothing to wait for.
    if (isOver) return sent;
    const over = new Promise<void>((resolve) => {
      end = resolve;
    });
    this.#last.set(conversationId, over);
    // One that is refused leaves its place to the next, but none before its time.
    const leave = () => (before ? before.then(end) : end());
    sent.then(leave, leave);
    void over.then(() => {
      if (this.#last.get(conversationId) === over) this.#last.delete(conversationId);
    });
    return sent;
  }
}
