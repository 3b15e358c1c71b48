/**
 * Creates a body from generated chunks. A chunk is generated only when the client has received the previous one. No
 * chunk is generated after the client has disconnected.
 * @param onError called if the generator throws. The connection is then aborted, because the status has already been sent.
 */
export function createTextStream(
  chunks: AsyncGenerator<string>,
  onError: (error: unknown) => void,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let isCancelled = false;
  return new ReadableStream({
    async pull(controller) {
      try {
        const { value, done } = await chunks.next();
        // The client disconnected while the chunk was being generated.
        if (isCancelled) return;
        if (done) controller.close();
        else controller.enqueue(encoder.encode(value));
      } catch (error) {
        if (isCancelled) return;
        onError(error);
        // The error isn't passed on, because Bun would print it.
        controller.error();
      }
    },
    async cancel() {
      isCancelled = true;
      await chunks.return(undefined);
    },
  });
}
