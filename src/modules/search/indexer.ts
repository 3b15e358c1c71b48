import type { Config } from "../../config.ts";
import { type Database, type Sql, withTransaction } from "../../db/client.ts";
import { formatConfigurationName } from "./language.ts";
import * as queries from "./queries.ts";
import { toWordText } from "./words.ts";

/** Maximum number of messages per part. The indexer has the text of one part in memory at a time. */
const PART_MESSAGES_MAX = 400;
/** Maximum number of parts per transaction. With more parts, the index entries of common words are rewritten less often. */
const BATCH_PARTS_MAX = 4;
/** Maximum number of existing conversations that one statement queues for indexing, after an upgrade or a language change. */
const BACKFILL_CONVERSATIONS = 200;
/** Maximum pause after a batch. The indexer pauses for as long as it has worked, so that sending messages takes priority. */
const PAUSE_MS_MAX = 1_000;

/**
 * Creates an indexer. It keeps the search index in sync with the messages. If a batch fails or is interrupted, it is retried by the
 * next run on any instance.
 */
export function createSearchIndexer({
  database,
  config,
}: {
  database: Database;
  config: Pick<Config, "SEARCH_LANGUAGE">;
}) {
  const language = formatConfigurationName(config.SEARCH_LANGUAGE);

  /** Indexes a part. Returns whether there may be more messages; null if another instance is indexing. */
  const indexPart = async (sql: Sql): Promise<boolean | null> => {
    const messages = await queries.claimMessages(sql, PART_MESSAGES_MAX);
    if (messages === null) return null;
    const preparedMessages = messages.map((message) => ({ ...message, words: toWordText(message.content) }));
    if (preparedMessages.length > 0)
      await queries.storeEntries(sql, language, preparedMessages, preparedMessages[0]?.is_new ?? true);
    return (await queries.findSearchWork(sql, language)).hasMessages;
  };

  /** Indexes a batch of parts in one transaction. Returns false if another instance is indexing. */
  const indexBatch = (): Promise<boolean> =>
    withTransaction(database, async (sql) => {
      for (let partCount = 0; partCount < BATCH_PARTS_MAX; partCount += 1) {
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

    /** Indexes all pending messages. Called by the job runner. */
    async run(signal: AbortSignal): Promise<void> {
      await queries.setLanguage(database, language);
      while (!signal.aborted) {
        const startedAtMs = performance.now();
        const { hasMessages, hasBackfill } = await queries.findSearchWork(database, language);
        if (hasMessages) {
          if (!(await indexBatch())) return;
        } else if (!hasBackfill || !(await queries.queueBackfill(database, BACKFILL_CONVERSATIONS))) return;
        await Bun.sleep(Math.min(PAUSE_MS_MAX, performance.now() - startedAtMs));
      }
    },
  };
}

export type Indexer = ReturnType<typeof createSearchIndexer>;
