/**
 * A body that pulls pieces as the reader consumes them, and stops when the reader disconnects.
 * @param onFault called if a piece fails; the status is already sent, so the connection is aborted.
 */
export function streamText(
  pieces: AsyncGenerator<string>,
  onFault: (error: unknown) => void,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let isReaderGone = false;
  return new ReadableStream({
    async pull(controller) {
      try {
        const { value, done } = await pieces.next();
        // The reader disconnected while the piece was produced.
        if (isReaderGone) return;
        if (done) controller.close();
        else controller.enqueue(encoder.encode(value));
      } catch (error) {
        if (isReaderGone) return;
        onFault(error);
        // Without the error: Bun would print it.
        controller.error();
      }
    },
    async cancel() {
      isReaderGone = true;
      await pieces.return(undefined);
    },
  });
}
