/** A part that has to come to an end in order: it takes on no more work, and lets what runs end. */
export type Part = {
  name: string;
  /** Parts that must have stopped before this one begins to. */
  after?: readonly string[];
  /** @param deadlineMs when it must have ended, in milliseconds since 1970. */
  stop(deadlineMs: number): Promise<unknown>;
};

/** What has to be stopped. Each part is registered where it is built, with what must have stopped before it. */
export interface Parts {
  add(part: Part): void;
  /** All of them, each behind those it stops after. @throws for an unknown name or a circle. */
  list(): Part[];
}

export function createParts(): Parts {
  const parts = new Map<string, Part>();

  return {
    add(part) {
      if (parts.has(part.name)) throw new Error(`There already is a part ${part.name}.`);
      parts.set(part.name, part);
    },

    list() {
      const listed = new Set<Part>();
      const visit = (name: string, path: readonly string[]): void => {
        const part = parts.get(name);
        if (!part) throw new Error(`${path.at(-1)} is to stop after ${name}, which is no part.`);
        if (path.includes(name)) throw new Error(`Parts stop after each other: ${[...path, name].join(", ")}.`);
        for (const before of part.after ?? []) visit(before, [...path, name]);
        listed.add(part);
      };
      for (const name of parts.keys()) visit(name, []);
      return [...listed];
    },
  };
}
