/** Cuts an answer off before its first stop sequence. */
export type StopFilter = {
  /** Returns the text that is ready to be shown. */
  push(text: string): string;
  /** Whether a stop sequence was found. */
  isStopped(): boolean;
  /** Returns the buffered text at the end of the answer. */
  end(): string;
};

const passAll: StopFilter = { push: (text) => text, isStopped: () => false, end: () => "" };

/**
 * Creates a filter for these stop sequences. The filter is needed even if the stop sequences are sent to the provider, which
 * might not support them. Buffers only a possible start of a stop sequence.
 */
export function createStopFilter(stops: readonly string[] = []): StopFilter {
  if (stops.length === 0) return passAll;
  let buffer = "";
  let isStopped = false;

  /** Returns the buffered text except for its last `keptLength` UTF-16 code units, which stay in the buffer. */
  function release(keptLength: number): string {
    const text = buffer.slice(0, buffer.length - keptLength);
    buffer = buffer.slice(buffer.length - keptLength);
    return text;
  }

  return {
    push(text) {
      if (isStopped || text === "") return "";
      buffer += text;
      const stopIndex = findStopIndex(buffer, stops);
      if (stopIndex === null) return release(Math.max(...stops.map((stop) => getPartialMatchLength(buffer, stop))));
      isStopped = true;
      return release(buffer.length - stopIndex);
    },
    isStopped: () => isStopped,
    end: () => (isStopped ? "" : release(0)),
  };
}

/** Returns the start of the stop sequence that is completed first, or null if the text contains none. */
function findStopIndex(text: string, stops: readonly string[]): number | null {
  const matches = stops
    .map((stop) => ({ start: text.indexOf(stop), length: stop.length }))
    .filter(({ start }) => start >= 0)
    .sort((a, b) => a.start + a.length - (b.start + b.length) || a.start - b.start);
  return matches[0]?.start ?? null;
}

/** Returns the length of the longest suffix of the text that is a prefix of `stop`. */
function getPartialMatchLength(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length -= 1)
    if (text.endsWith(stop.slice(0, length))) return length;
  return 0;
}
