/**
 * A body that pulls the pieces as the reader takes them, and stops reading when the reader goes away.
 * @param onFault called when a piece cannot be made; the status is sent by then, so the connection is broken off.
 */
export function streamText(
  pieces: AsyncGenerator<string>,
  onFault: (error: unknown) => void,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let isLeft = false;
  return new ReadableStream({
    async pull(controller) {
      try {
        const { value, done } = await pieces.next();
        // The reader went away while the piece was made.
        if (isLeft) return;
        if (done) controller.close();
        else controller.enqueue(encoder.encode(value));
      } catch (error) {
        if (isLeft) return;
        onFault(error);
        // Without the error, which Bun would print as it is.
        controller.error();
      }
    },
    async cancel() {
      isLeft = true;
      await pieces.return(undefined);
    },
  });
}
