/** Cuts a text off before the first stop sequence. */
export type StopFilter = {
  /** Returns the text that can be shown now. */
  push(text: string): string;
  /** Whether a stop sequence was found. Nothing is shown after it. */
  isStopped(): boolean;
  /** Returns the held text, at the end of the answer. */
  end(): string;
};

const passAll: StopFilter = { push: (text) => text, isStopped: () => false, end: () => "" };

/**
 * Ends a text before the stop sequence that completes first, because the provider may lack this parameter or the model may
 * reject it. Holds back only a possible start of a stop sequence.
 */
export function createStopFilter(stops: readonly string[] = []): StopFilter {
  if (stops.length === 0) return passAll;
  let held = "";
  let isStopped = false;

  /** Releases the held text except for the last `kept` UTF-16 units. */
  function release(kept: number): string {
    const text = held.slice(0, held.length - kept);
    held = held.slice(held.length - kept);
    return text;
  }

  return {
    push(text) {
      if (isStopped || text === "") return "";
      held += text;
      const place = findStop(held, stops);
      if (place === null) return release(Math.max(...stops.map((stop) => countBeginning(held, stop))));
      isStopped = true;
      return release(held.length - place);
    },
    isStopped: () => isStopped,
    end: () => (isStopped ? "" : release(0)),
  };
}

/** Start of the stop sequence that completes first, however the text is split; null: none. */
function findStop(text: string, stops: readonly string[]): number | null {
  const found = stops
    .map((stop) => ({ start: text.indexOf(stop), length: stop.length }))
    .filter(({ start }) => start >= 0)
    .sort((one, other) => one.start + one.length - (other.start + other.length) || one.start - other.start);
  return found[0]?.start ?? null;
}

/** Length of the longest end of the text that may begin `stop`. */
function countBeginning(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length -= 1)
    if (text.endsWith(stop.slice(0, length))) return length;
  return 0;
}
