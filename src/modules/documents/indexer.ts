import { type Database, type Sql, withTransaction } from "../../db/client.ts";
import type { Log } from "../../lib/log.ts";
import { parseMarkdown } from "./markdown.ts";
import { toIndexText, toPlainText } from "./plain-text.ts";
import * as queries from "./queries.ts";
import type { DocumentEntry, DocumentFile, DocumentSource, SkippedFile } from "./source.ts";

/** Raised whenever the index of an unchanged file would come out differently, so that it is made anew. */
const INDEX_FORMAT = 1;
const SKIPPED_LOGGED_MAX = 20;

type Dependencies = { database: Database; source: DocumentSource; log: Log };

/** A file as it was when it was last read; `hash` is null when it could not be. */
type SeenFile = { stamp: string; hash: string | null };

/**
 * Keeps the index like the files. It remembers what it has seen: while no file changes, a scan costs a look at each of
 * them and no query. After a change the whole index is compared with the files, whoever wrote it.
 */
export function createIndexer({ database, source, log }: Dependencies) {
  let seen = new Map<string, SeenFile>();
  let isIndexed = false;
  let skippedBefore = "[]";

  function reportSkipped(skipped: SkippedFile[]): void {
    const report = JSON.stringify(skipped);
    if (report !== skippedBefore && skipped.length > 0)
      log.warn({ skipped: skipped.slice(0, SKIPPED_LOGGED_MAX), count: skipped.length }, "documents left out");
    skippedBefore = report;
  }

  return {
    /** Looks for changes and indexes them, in one transaction. Not to be called while it runs. */
    async scan(): Promise<void> {
      const { entries, skipped } = await source.list();
      reportSkipped(skipped);
      const isSame =
        entries.length === seen.size && entries.every(({ path, stamp }) => seen.get(path)?.stamp === stamp);
      if (isSame && isIndexed) return;
      isIndexed = false;
      const result = await withTransaction(database, (sql) => updateIndex(sql, source, entries, seen));
      seen = result.seen;
      isIndexed = true;
      const { written, removed } = result;
      if (written + removed > 0) log.info({ documents: entries.length, written, removed }, "documents indexed");
    },
  };
}

async function updateIndex(
  sql: Sql,
  source: DocumentSource,
  entries: DocumentEntry[],
  seenBefore: ReadonlyMap<string, SeenFile>,
): Promise<{ seen: Map<string, SeenFile>; written: number; removed: number }> {
  await queries.lockIndex(sql);
  const stale = new Map((await queries.listIndexed(sql)).map((row) => [row.path, row]));
  const seen = new Map<string, SeenFile>();
  let written = 0;
  for (const { path, stamp } of entries) {
    const row = stale.get(path);
    const before = seenBefore.get(path);
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
    if (row?.hash !== hash) {
      await queries.upsertDocument(sql, { ...mapToDocument(file), hash });
      written += 1;
    } else if (row.updated_at.getTime() !== file.updatedAt.getTime()) {
      await queries.touchDocument(sql, path, file.updatedAt);
    }
  }
  if (stale.size > 0) await queries.deleteDocuments(sql, [...stale.keys()]);
  return { seen, written, removed: stale.size };
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
