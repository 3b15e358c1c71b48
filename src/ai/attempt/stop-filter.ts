/** Keeps back what comes from the first of the texts on that end an answer. */
export type StopFilter = {
  /** What of the text may be shown now. */
  push(text: string): string;
  /** Whether one of the texts has come. Nothing is shown after that. */
  isStopped(): boolean;
  /** What was held back, at the end of the text. */
  end(): string;
};

const passAll: StopFilter = { push: (text) => text, isStopped: () => false, end: () => "" };

/**
 * Ends a text before the one of `stops` that is complete first: the provider may have no such parameter, or the model may refuse it. Only
 * what may be the beginning of one is held back.
 */
export function createStopFilter(stops: readonly string[] = []): StopFilter {
  if (stops.length === 0) return passAll;
  let held = "";
  let isStopped = false;

  /** Gives what is held, but for the last `kept` UTF-16 units. */
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

/** Where the stop begins that is complete first, so that it does not matter in which pieces a text comes; null: none is. */
function findStop(text: string, stops: readonly string[]): number | null {
  const found = stops
    .map((stop) => ({ start: text.indexOf(stop), length: stop.length }))
    .filter(({ start }) => start >= 0)
    .sort((one, other) => one.start + one.length - (other.start + other.length) || one.start - other.start);
  return found[0]?.start ?? null;
}

/** How much of the end of a text may be the beginning of `stop`. */
function countBeginning(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length -= 1)
    if (text.endsWith(stop.slice(0, length))) return length;
  return 0;
}
