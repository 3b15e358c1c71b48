import type { Config } from "../../config.ts";
import { type Database, type Sql, withTransaction } from "../../db/client.ts";
import { nameConfiguration } from "./language.ts";
import * as queries from "./queries.ts";
import { toWordText } from "./words.ts";

/** Messages whose texts are in memory at a time. */
const PART_MESSAGES = 400;
/** Parts of one transaction. The more there are, the fewer times a part of the index is written for words that many messages have. */
const BATCH_PARTS = 4;
/** Conversations of before there was an index that are taken at a time. */
const BACKFILL_CONVERSATIONS = 200;
/** Sends come first: the indexer pauses as long as it worked, up to this. What it has not done yet, searches look through. */
const PAUSE_MS_MAX = 1_000;

/** Keeps the search index like the messages. What fails or is interrupted in a batch is done by the next run, on any instance. */
export function createSearchIndexer({
  database,
  config,
}: {
  database: Database;
  config: Pick<Config, "SEARCH_LANGUAGE">;
}) {
  const language = nameConfiguration(config.SEARCH_LANGUAGE);

  /** @returns whether there may be more; null: another instance is at it. */
  const indexPart = async (sql: Sql): Promise<boolean | null> => {
    const messages = await queries.takeWork(sql, PART_MESSAGES);
    if (messages === null) return null;
    const prepared = messages.map((message) => ({ ...message, words: toWordText(message.content) }));
    if (prepared.length > 0) await queries.storeEntries(sql, language, prepared, prepared[0]?.is_new ?? true);
    return (await queries.findSearchWork(sql, language)).hasMessages;
  };

  /** @returns whether this instance did something; false: another one is at it. */
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

    /** For the job runner: indexes all there is. */
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
