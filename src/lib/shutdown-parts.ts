/** A component with a graceful shutdown: it accepts no new work and finishes the work in progress. */
export type ShutdownPart = {
  name: string;
  /** The names of the components that must stop before this one. */
  after?: readonly string[];
  /** Stops the component. @param deadlineMs the time by which it must have stopped, in milliseconds since 1970. */
  stop(deadlineMs: number): Promise<unknown>;
};

/** The components that have to be stopped. */
export interface ShutdownParts {
  add(part: ShutdownPart): void;
  /** Lists all components in the order in which they must stop. @throws Error for an unknown name or a cycle. */
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
