import { readEmbeddedDocs } from "./embedded-docs.ts" with { type: "macro" };
import { createDocumentFile, type DocumentSource } from "./source.ts";

const docs: { path: string; content: string; modifiedAt: string }[] = readEmbeddedDocs();

/** Serves Parley's own guides, as of the build. */
export function createEmbeddedSource(): DocumentSource {
  const files = new Map(
    docs.map(({ path, content, modifiedAt }) => [
      path,
      createDocumentFile(path, Buffer.from(content), new Date(modifiedAt)),
    ]),
  );
  return {
    async list() {
      return { entries: [...files.values()].map(({ path, hash }) => ({ path, stamp: hash })), skipped: [] };
    },
    async read(path) {
      return files.get(path) ?? null;
    },
  };
}
