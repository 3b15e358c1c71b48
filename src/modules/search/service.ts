import type { Config } from "../../config.ts";
import type { Database } from "../../db/client.ts";
import { createBadCursorProblem, type PageRequest } from "../../http/pagination.ts";
import { isUuid } from "../../lib/schema.ts";
import { formatConfigurationName } from "./language.ts";
import { parseQuery } from "./parse-query.ts";
import * as queries from "./queries.ts";
import { createHitSnippets } from "./snippets.ts";
import { toWordText } from "./words.ts";

export { createSearchIndexer } from "./indexer.ts";

/** A matching message with its snippet. */
export type FoundMessage = queries.HitRow & { snippet: string };

type SearchRequest = {
  /** The search query that the user typed. */
  input: string;
  conversationId: string | null;
  role: string | null;
  from: Date | null;
  to: Date | null;
};

/** Searches the text of messages (docs/decisions/0074). */
export interface SearchService {
  /**
   * Finds matching messages in the user's conversations, best match first: up to one more than the page size. `page.after` is
   * [rank, time, id]. A message can be found as soon as it has been acknowledged that it was sent, edited or completed.
   * @throws Problem `bad_cursor`, or `invalid` for a query without a word to search for.
   */
  search(userId: string, request: SearchRequest, page: PageRequest): Promise<FoundMessage[]>;
}

type Dependencies = { database: Database; config: Pick<Config, "SEARCH_LANGUAGE"> };

export function createSearchService({ database, config }: Dependencies): SearchService {
  const language = formatConfigurationName(config.SEARCH_LANGUAGE);
  return {
    async search(userId, { input, ...filters }, { limit, after }) {
      const position = after && parsePosition(after);
      const query = parseQuery(input);
      const unindexedMessages = (await queries.listUnindexedMessages(database, userId)).map((message) => ({
        ...message,
        words: message.content === null ? null : toWordText(message.content),
      }));
      const rows = await queries.search(database, {
        userId,
        query,
        language,
        ...filters,
        unindexedMessages,
        after: position,
        limit: limit + 1,
      });
      const contents = rows.slice(0, limit).map(({ content }) => content);
      const snippets = await createHitSnippets(database, { contents, query, language });
      return rows.map((row, index) => ({ ...row, snippet: snippets[index] ?? "" }));
    },
  };
}

function parsePosition([rank, at = "", id = ""]: string[]): queries.Position {
  const value = Number(rank);
  const time = new Date(at);
  if (!rank || !(value >= 0 && value <= 1) || Number.isNaN(time.getTime()) || !isUuid(id))
    throw createBadCursorProblem();
  return { rank: value, at: time, id };
}
