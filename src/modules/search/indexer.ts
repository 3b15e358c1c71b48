import type { Config } from "../../config.ts";
import { type Database, type Sql, withTransaction } from "../../db/client.ts";
import { formatConfigurationName } from "./language.ts";
import * as queries from "./queries.ts";
import { toWordText } from "./words.ts";

/** Maximum messages whose texts are in memory at a time. */
const PART_MESSAGES = 400;
/** Parts per transaction. The more there are, the fewer times the index entries of common words are rewritten. */
const BATCH_PARTS = 4;
/** Existing conversations that are queued for indexing at once, after an upgrade or a change of the language. */
const BACKFILL_CONVERSATIONS = 200;
/** The longest pause after a batch. The indexer pauses as long as it has worked, so that sends take priority. */
const PAUSE_MS_MAX = 1_000;

/**
 * Keeps the search index in sync with the messages. If a batch fails or is interrupted, the next run on any instance
 * retries it.
 */
export function createSearchIndexer({
  database,
  config,
}: {
  database: Database;
  config: Pick<Config, "SEARCH_LANGUAGE">;
}) {
  const language = formatConfigurationName(config.SEARCH_LANGUAGE);

  /** Indexes one part. @returns whether there may be more; null if another instance is indexing. */
  const indexPart = async (sql: Sql): Promise<boolean | null> => {
    const messages = await queries.claimWork(sql, PART_MESSAGES);
    if (messages === null) return null;
    const prepared = messages.map((message) => ({ ...message, words: toWordText(message.content) }));
    if (prepared.length > 0) await queries.storeEntries(sql, language, prepared, prepared[0]?.is_new ?? true);
    return (await queries.findSearchWork(sql, language)).hasMessages;
  };

  /** Indexes a batch of parts in one transaction. @returns false if another instance is indexing. */
  const indexBatch = (): Promise<boolean> =>
    withTransaction(database, async (sql) => {
      for (let parts = 0; parts < BATCH_PARTS; parts += 1) {
        const hasMore = await indexPart(sql);
        if (hasMore === null) return false;
        if (!hasMore) break;
      }
      await queries.mergeEntries(sql);
      return true;
    });

  return {
    async isDue(): Promise<boolean> {
      const { hasMessages, hasBackfill } = await queries.findSearchWork(database, language);
      return hasMessages || hasBackfill;
    },

    /** Indexes everything pending. Called by the job runner. */
    async run(signal: AbortSignal): Promise<void> {
      await queries.setLanguage(database, language);
      while (!signal.aborted) {
        const startedAtMs = performance.now();
        const { hasMessages, hasBackfill } = await queries.findSearchWork(database, language);
        if (hasMessages) {
          if (!(await indexBatch())) return;
        } else if (!hasBackfill || !(await queries.addBackfill(database, BACKFILL_CONVERSATIONS))) return;
        await Bun.sleep(Math.min(PAUSE_MS_MAX, performance.now() - startedAtMs));
      }
    },
  };
}

export type Indexer = ReturnType<typeof createSearchIndexer>;
