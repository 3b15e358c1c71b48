/** Parts of a conversation that are not imported, by kind. */
const kinds = {
  image: "images",
  audio: "audio recordings",
  file: "files",
  tool: "tool messages",
  reasoning: "reasoning texts",
  other: "parts of unknown kinds",
} as const;
type LeftOutKind = keyof typeof kinds;

/** Counts what is left out of a conversation or cut. */
export type LeftOut = {
  add(kind: LeftOutKind, count?: number): void;
  addCut(): void;
  /** One sentence for the report; null if nothing is missing. */
  describe(): string | null;
};

/** Creates an empty count. */
export function createLeftOut(): LeftOut {
  const counts = new Map<LeftOutKind, number>();
  let cuts = 0;
  return {
    add(kind, count = 1) {
      if (count > 0) counts.set(kind, (counts.get(kind) ?? 0) + count);
    },
    addCut() {
      cuts += 1;
    },
    describe() {
      const listed = [...counts].map(([kind, count]) => `${count} ${count === 1 ? singular(kind) : kinds[kind]}`);
      const sentences = [
        ...(listed.length > 0 ? [`Left out: ${listed.join(", ")}.`] : []),
        ...(cuts > 0 ? [`${cuts === 1 ? "1 message was" : `${cuts} messages were`} too long and cut.`] : []),
      ];
      return sentences.length > 0 ? sentences.join(" ") : null;
    },
  };
}

function singular(kind: LeftOutKind): string {
  if (kind === "tool") return "tool message";
  if (kind === "other") return "part of an unknown kind";
  return kinds[kind].slice(0, -1);
}
