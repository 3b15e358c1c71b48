import type { Config } from "../../config.ts";
import { type Database, type Sql, withTransaction } from "../../db/client.ts";
import { nameConfiguration } from "./language.ts";
import * as queries from "./queries.ts";
import { toWordText } from "./words.ts";

/** Messages whose texts are in memory at a time. */
const PART_MESSAGES = 400;
/** Batches per transaction. More of them mean fewer rewrites of index entries for common words. */
const BATCH_PARTS = 4;
/** Existing conversations added to the index per batch after an upgrade. */
const BACKFILL_CONVERSATIONS = 200;
/** Sends take priority: the indexer pauses as long as it worked, up to this. Searches scan messages not indexed yet. */
const PAUSE_MS_MAX = 1_000;

/** Keeps the search index in sync with the messages. A failed or interrupted batch is retried by the next run, on any instance. */
export function createSearchIndexer({
  database,
  config,
}: {
  database: Database;
  config: Pick<Config, "SEARCH_LANGUAGE">;
}) {
  const language = nameConfiguration(config.SEARCH_LANGUAGE);

  /** @returns whether there may be more; null: another instance is indexing. */
  const indexPart = async (sql: Sql): Promise<boolean | null> => {
    const messages = await queries.claimWork(sql, PART_MESSAGES);
    if (messages === null) return null;
    const prepared = messages.map((message) => ({ ...message, words: toWordText(message.content) }));
    if (prepared.length > 0) await queries.storeEntries(sql, language, prepared, prepared[0]?.is_new ?? true);
    return (await queries.findSearchWork(sql, language)).hasMessages;
  };

  /** @returns whether this instance did something; false: another one is indexing. */
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

    /** For the job runner: indexes everything pending. */
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
