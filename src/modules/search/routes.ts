import { createPage, Page, parsePageQuery } from "../../http/pagination.ts";
import { type Route, route } from "../../http/route.ts";
import { parseTimeFilter } from "../../http/time-filter.ts";
import { mapRowToAuthor } from "../../protocol/message.ts";
import { SearchHit, SearchQuery } from "./model.ts";
import type { FoundMessage, SearchService } from "./service.ts";

type Dependencies = { search: SearchService };

/** Creates the route `/api/v1/search`. */
export const createSearchRoutes = ({ search }: Dependencies): Route[] => [
  route({
    method: "GET",
    path: "/api/v1/search",
    operationId: "searchMessages",
    summary: "Search the messages of my conversations, best match first",
    description:
      "Searches all conversations that the caller is currently a member of. At least the newest 500 matching messages " +
      "are ranked. If there are more matches, use `conversation_id`, `role`, `from` and `to` to narrow the search.",
    tag: "messages",
    scope: "messages:read",
    expensive: "search",
    query: SearchQuery,
    ok: Page(SearchHit),
    handle: async ({ caller, query, request, set }) => {
      const page = parsePageQuery(query, 3);
      const matches = await search.search(
        caller.user.id,
        {
          input: query.q,
          conversationId: query.conversation_id ?? null,
          role: query.role ?? null,
          from: parseTimeFilter(query.from, "from") ?? null,
          to: parseTimeFilter(query.to, "to") ?? null,
        },
        page,
      );
      const createCursor = ({ rank, at, id }: FoundMessage) => [String(rank), at.toISOString(), id];
      return createPage(matches, page.limit, createCursor, mapToHit, { request, headers: set.headers });
    },
  }),
];

function mapToHit(row: FoundMessage): SearchHit {
  return {
    message_id: row.id,
    conversation_id: row.conversation_id,
    conversation_title: row.title,
    seq: row.seq,
    role: row.role,
    author: mapRowToAuthor(row),
    model: row.model,
    snippet: row.snippet,
    rank: row.rank,
    created_at: row.at.toISOString(),
  };
}
