/** Kinds of content that are not imported, with their plurals for the report. */
const pluralsByKind = {
  image: "images",
  audio: "audio recordings",
  file: "files",
  tool: "tool messages",
  reasoning: "reasoning passages",
  other: "parts of unknown kinds",
} as const;
type OmissionKind = keyof typeof pluralsByKind;

/** Counts omitted and truncated parts of a conversation. */
export type Omissions = {
  add(kind: OmissionKind, count?: number): void;
  addTruncated(): void;
  /** Returns the text for the report; null if nothing was omitted or truncated. */
  describe(): string | null;
};

/** Creates counters at zero. */
export function createOmissions(): Omissions {
  const counts = new Map<OmissionKind, number>();
  let truncatedCount = 0;
  return {
    add(kind, count = 1) {
      if (count > 0) counts.set(kind, (counts.get(kind) ?? 0) + count);
    },
    addTruncated() {
      truncatedCount += 1;
    },
    describe() {
      const descriptions = [...counts].map(
        ([kind, count]) => `${count} ${count === 1 ? getSingular(kind) : pluralsByKind[kind]}`,
      );
      const sentences = [
        ...(descriptions.length > 0 ? [`Left out: ${descriptions.join(", ")}.`] : []),
        ...(truncatedCount > 0
          ? [`${truncatedCount === 1 ? "1 long message was" : `${truncatedCount} long messages were`} truncated.`]
          : []),
      ];
      return sentences.length > 0 ? sentences.join(" ") : null;
    },
  };
}

function getSingular(kind: OmissionKind): string {
  if (kind === "tool") return "tool message";
  if (kind === "other") return "part of an unknown kind";
  return pluralsByKind[kind].slice(0, -1);
}
