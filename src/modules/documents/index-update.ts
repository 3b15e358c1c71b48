import type { Sql } from "../../db/client.ts";
import * as lists from "./list-queries.ts";
import { parseMarkdown } from "./markdown.ts";
import { toIndexText, toPlainText } from "./plain-text.ts";
import * as queries from "./queries.ts";
import type { DocumentEntry, DocumentFile, DocumentSource } from "./source.ts";

/** Increase this when a change to the code would index the same files differently, so that all are indexed again. */
const INDEX_FORMAT = 1;

/** A file when it was last read; `hash` is null if it couldn't be read. */
export type SeenFile = { stamp: string; hash: string | null };

export type IndexUpdate = {
  seen: Map<string, SeenFile>;
  /** Documents that were written, removed, or kept although no instance has them. */
  written: number;
  removed: number;
  kept: number;
  own: lists.DocumentList;
  others: lists.DocumentList[];
};

type Dependencies = { source: DocumentSource; instanceId: string; origin: lists.ListOrigin };

/** Creates the function that updates the index within a transaction (docs/decisions/0066). */
export function createIndexUpdate({ source, instanceId, origin }: Dependencies) {
  /** @param listTtlMs deletes the lists of instances that haven't been seen for this long; null: deletes none. */
  return async function updateIndex(
    sql: Sql,
    entries: DocumentEntry[],
    previouslySeen: ReadonlyMap<string, SeenFile>,
    listTtlMs: number | null,
  ): Promise<IndexUpdate> {
    await queries.lockIndex(sql);
    if (listTtlMs !== null) await lists.deleteExpiredLists(sql, instanceId, listTtlMs);
    const others = await lists.listOthers(sql, instanceId);
    const isElsewhere = (path: string, hash?: string) =>
      others.some(({ hashes }) => (hash === undefined ? hashes.has(path) : hashes.get(path) === hash));
    const stale = new Map((await queries.listIndexed(sql)).map((row) => [row.path, row]));
    const seen = new Map<string, SeenFile>();
    let written = 0;
    let touched = 0;
    for (const { path, stamp } of entries) {
      const row = stale.get(path);
      const before = previouslySeen.get(path);
      if (before?.stamp === stamp && before.hash === (row?.hash ?? null)) {
        seen.set(path, before);
        stale.delete(path);
        continue;
      }
      const file = await source.read(path);
      const hash = file && `${INDEX_FORMAT}:${file.hash}`;
      seen.set(path, { stamp, hash });
      if (file === null || hash === null) continue;
      stale.delete(path);
      // Keep the newest version that any instance has. All instances choose the same one.
      if (row && isElsewhere(path, row.hash) && !isNewer({ hash, updatedAt: file.updatedAt }, row)) continue;
      if (row?.hash !== hash) {
        await queries.upsertDocument(sql, { ...mapToDocument(file), hash });
        written += 1;
      } else if (row.updated_at.getTime() !== file.updatedAt.getTime()) {
        await queries.touchDocument(sql, path, file.updatedAt);
        touched += 1;
      }
    }
    const nowhere = [...stale.keys()].filter((path) => !isElsewhere(path));
    const removed = entries.length === 0 ? [] : nowhere;
    if (removed.length > 0) await queries.deleteDocuments(sql, removed);
    if (written + touched + removed.length > 0) await queries.incrementGeneration(sql);
    const own = createList(origin, seen);
    await lists.storeList(sql, instanceId, own);
    return { seen, written, removed: removed.length, kept: nowhere.length - removed.length, own, others };
  };
}

type Version = { hash: string; updatedAt: Date };

function isNewer({ hash, updatedAt }: Version, row: queries.IndexedFile): boolean {
  const [own, other] = [updatedAt.getTime(), row.updated_at.getTime()];
  return own > other || (own === other && hash > row.hash);
}

function createList(origin: lists.ListOrigin, seen: ReadonlyMap<string, SeenFile>): lists.DocumentList {
  const hashes = new Map<string, string>();
  for (const [path, { hash }] of seen) if (hash !== null) hashes.set(path, hash);
  const hasher = new Bun.CryptoHasher("sha256");
  for (const [path, hash] of [...hashes].sort(([one], [other]) => (one < other ? -1 : 1)))
    hasher.update(JSON.stringify([path, hash]));
  return { ...origin, fingerprint: hasher.digest("hex"), hashes };
}

function mapToDocument({ path, content, size, updatedAt }: DocumentFile): Omit<queries.NewDocument, "hash"> {
  const { title, headings, passages } = parseMarkdown(path, content);
  const mapped = passages.map((passage) => ({
    heading: passage.heading,
    headingWords: toIndexText(passage.heading ?? ""),
    content: { text: passage.content, words: toIndexText(toPlainText(passage.content)) },
  }));
  return {
    path,
    title: { text: title, words: toIndexText(title) },
    headings,
    headingWords: toIndexText(headings.map(({ text }) => text).join("\n")),
    content: { words: mapped.map((passage) => passage.content.words).join("\n") },
    size,
    updatedAt,
    passages: mapped,
  };
}
