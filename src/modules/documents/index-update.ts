import type { Sql } from "../../db/client.ts";
import * as lists from "./list-queries.ts";
import { parseMarkdown } from "./markdown.ts";
import { toIndexText, toPlainText } from "./plain-text.ts";
import * as queries from "./queries.ts";
import type { DocumentEntry, DocumentFile, DocumentSource } from "./source.ts";

/** Increase this if a code change would index the same files differently. All files are then indexed again. */
const INDEX_FORMAT = 1;

/** A file's state when it was last read. `hash` is null if it couldn't be read. */
export type ScannedFile = { stamp: string; hash: string | null };

export type IndexUpdate = {
  scannedFiles: Map<string, ScannedFile>;
  // The numbers of documents that were written, that were removed, and that were kept although no instance has them.
  written: number;
  removed: number;
  kept: number;
  ownList: lists.DocumentList;
  otherLists: lists.DocumentList[];
};

type Dependencies = { source: DocumentSource; instanceId: string; origin: lists.ListOrigin };

/** Creates a function that updates the index within a transaction (docs/decisions/0066). */
export function createIndexUpdater({ source, instanceId, origin }: Dependencies) {
  /**
   * Updates the index, and stores this instance's list.
   * @param listTtlMs the lists of instances that haven't reported for this long are deleted first. If null, no lists are deleted.
   */
  return async function updateIndex(
    sql: Sql,
    entries: DocumentEntry[],
    previousScans: ReadonlyMap<string, ScannedFile>,
    listTtlMs: number | null,
  ): Promise<IndexUpdate> {
    await queries.lockIndex(sql);
    if (listTtlMs !== null) await lists.deleteExpiredLists(sql, instanceId, listTtlMs);
    const otherLists = await lists.findOtherLists(sql, instanceId);
    const isOnOtherInstance = (path: string, hash?: string) =>
      otherLists.some(({ hashes }) => (hash === undefined ? hashes.has(path) : hashes.get(path) === hash));
    const unmatchedRows = new Map((await queries.listIndexedFiles(sql)).map((row) => [row.path, row]));
    const scannedFiles = new Map<string, ScannedFile>();
    let written = 0;
    let touchedCount = 0;
    for (const { path, stamp } of entries) {
      const row = unmatchedRows.get(path);
      const previousScan = previousScans.get(path);
      if (previousScan?.stamp === stamp && previousScan.hash === (row?.hash ?? null)) {
        scannedFiles.set(path, previousScan);
        unmatchedRows.delete(path);
        continue;
      }
      const file = await source.read(path);
      const hash = file && `${INDEX_FORMAT}:${file.hash}`;
      scannedFiles.set(path, { stamp, hash });
      if (file === null || hash === null) continue;
      unmatchedRows.delete(path);
      // Keeps the newest version that any instance has. All instances choose the same version.
      if (row && isOnOtherInstance(path, row.hash) && !isNewer({ hash, updatedAt: file.updatedAt }, row)) continue;
      if (row?.hash !== hash) {
        await queries.upsertDocument(sql, { ...mapToDocument(file), hash });
        written += 1;
      } else if (row.updated_at.getTime() !== file.updatedAt.getTime()) {
        await queries.updateDocumentTime(sql, path, file.updatedAt);
        touchedCount += 1;
      }
    }
    const orphanedPaths = [...unmatchedRows.keys()].filter((path) => !isOnOtherInstance(path));
    const removed = entries.length === 0 ? [] : orphanedPaths;
    if (removed.length > 0) await queries.deleteDocuments(sql, removed);
    if (written + touchedCount + removed.length > 0) await queries.incrementGeneration(sql);
    const ownList = createList(origin, scannedFiles);
    await lists.storeList(sql, instanceId, ownList);
    return {
      scannedFiles,
      written,
      removed: removed.length,
      kept: orphanedPaths.length - removed.length,
      ownList,
      otherLists,
    };
  };
}

type Version = { hash: string; updatedAt: Date };

function isNewer({ hash, updatedAt }: Version, row: queries.IndexedFile): boolean {
  const [ownTime, indexedTime] = [updatedAt.getTime(), row.updated_at.getTime()];
  return ownTime > indexedTime || (ownTime === indexedTime && hash > row.hash);
}

function createList(origin: lists.ListOrigin, scannedFiles: ReadonlyMap<string, ScannedFile>): lists.DocumentList {
  const hashes = new Map<string, string>();
  for (const [path, { hash }] of scannedFiles) if (hash !== null) hashes.set(path, hash);
  const hasher = new Bun.CryptoHasher("sha256");
  for (const [path, hash] of [...hashes].sort(([leftPath], [rightPath]) => (leftPath < rightPath ? -1 : 1)))
    hasher.update(JSON.stringify([path, hash]));
  return { ...origin, fingerprint: hasher.digest("hex"), hashes };
}

function mapToDocument({ path, content, size, updatedAt }: DocumentFile): Omit<queries.NewDocument, "hash"> {
  const { title, headings, passages } = parseMarkdown(path, content);
  const indexedPassages = passages.map((passage) => ({
    heading: passage.heading,
    headingWords: toIndexText(passage.heading ?? ""),
    content: { text: passage.content, words: toIndexText(toPlainText(passage.content)) },
  }));
  return {
    path,
    title: { text: title, words: toIndexText(title) },
    headings,
    headingWords: toIndexText(headings.map(({ text }) => text).join("\n")),
    content: { words: indexedPassages.map((passage) => passage.content.words).join("\n") },
    size,
    updatedAt,
    passages: indexedPassages,
  };
}
