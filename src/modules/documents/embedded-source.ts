import { readEmbeddedDocs } from "./embedded-docs.ts" with { type: "macro" };
import { createDocumentFile, type DocumentSource } from "./source.ts";

/** Parley's own guides, with their paths in the repository, as of the build. */
export const embeddedDocs: { path: string; content: string; modifiedAt: string }[] = readEmbeddedDocs();

/** Returns whether a page is for users of Parley, not for its developers. */
const isForUsers = (path: string): boolean => path.startsWith("docs/") && path !== "docs/architecture.md";

/** Creates the source of Parley's own guides, as of the build. */
export function createEmbeddedSource(): DocumentSource {
  const files = new Map(
    embeddedDocs
      .filter(({ path }) => isForUsers(path))
      .map(({ path, content, modifiedAt }) => {
        const name = path.replace("docs/", "");
        return [name, createDocumentFile(name, Buffer.from(content), new Date(modifiedAt))];
      }),
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
