/** Parts of a conversation that are not imported, by kind. */
const kinds = {
  image: "images",
  audio: "audio recordings",
  file: "files",
  tool: "tool messages",
  reasoning: "reasoning texts",
  other: "parts of unknown kinds",
} as const;
type OmissionKind = keyof typeof kinds;

/** Counts what is left out of a conversation or cut. */
export type Omissions = {
  add(kind: OmissionKind, count?: number): void;
  addTruncated(): void;
  /** One sentence for the report; null if nothing is missing. */
  describe(): string | null;
};

/** Creates an empty count. */
export function createOmissions(): Omissions {
  const counts = new Map<OmissionKind, number>();
  let cuts = 0;
  return {
    add(kind, count = 1) {
      if (count > 0) counts.set(kind, (counts.get(kind) ?? 0) + count);
    },
    addTruncated() {
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

function singular(kind: OmissionKind): string {
  if (kind === "tool") return "tool message";
  if (kind === "other") return "part of an unknown kind";
  return kinds[kind].slice(0, -1);
}
