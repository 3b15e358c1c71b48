/** A component with an orderly shutdown: it accepts no more work, and finishes what is in progress. */
export type ShutdownPart = {
  name: string;
  /** Parts that must have stopped before this one starts to stop. */
  after?: readonly string[];
  /** @param deadlineMs when it must have stopped, in milliseconds since 1970. */
  stop(deadlineMs: number): Promise<unknown>;
};

/** The parts to stop. Each is registered where it is built, with the parts that must stop first. */
export interface ShutdownParts {
  add(part: ShutdownPart): void;
  /** All parts, each after those it waits for. @throws for an unknown name or a cycle. */
  list(): ShutdownPart[];
}

export function createShutdownParts(): ShutdownParts {
  const parts = new Map<string, ShutdownPart>();

  return {
    add(part) {
      if (parts.has(part.name)) throw new Error(`A part named ${part.name} already exists.`);
      parts.set(part.name, part);
    },

    list() {
      const listed = new Set<ShutdownPart>();
      const visit = (name: string, path: readonly string[]): void => {
        const part = parts.get(name);
        if (!part) throw new Error(`${path.at(-1)} stops after ${name}, which is not a part.`);
        if (path.includes(name))
          throw new Error(`Parts wait for each other in a cycle: ${[...path, name].join(", ")}.`);
        for (const before of part.after ?? []) visit(before, [...path, name]);
        listed.add(part);
      };
      for (const name of parts.keys()) visit(name, []);
      return [...listed];
    },
  };
}
