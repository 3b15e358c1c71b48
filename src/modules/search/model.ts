import { type Static, Type } from "@sinclair/typebox";
import { PageQuery } from "../../http/pagination.ts";
import { Named, Nullable, OneOf, SearchText, Timestamp, Uuid } from "../../lib/schema.ts";
import { Message } from "../../protocol/message.ts";

/** Maximum length of a search query, in UTF-16 code units. */
const SEARCH_CHARS_MAX = 500;

const roles = ["system", "user", "assistant", "tool"] as const;

export const SearchQuery = Type.Object({
  ...PageQuery,
  q: SearchText({
    minLength: 1,
    maxLength: SEARCH_CHARS_MAX,
    description: 'The search query: `word`, `"a phrase"`, `prefix*`, `-excluded`, and `or`.',
  }),
  conversation_id: Type.Optional(Uuid()),
  role: Type.Optional(OneOf(roles)),
  from: Type.Optional(Timestamp({ description: "Start of the time range, inclusive." })),
  to: Type.Optional(Timestamp({ description: "End of the time range, exclusive." })),
});

/** A message in the search results. */
export const SearchHit = Named(
  "SearchHit",
  Type.Object({
    message_id: Uuid(),
    conversation_id: Uuid(),
    conversation_title: Type.String(),
    seq: Type.Integer(),
    role: OneOf(roles),
    author: Message.properties.author,
    model: Nullable(Type.String()),
    snippet: Type.String({
      description: "HTML excerpt around the first match. Matches are in `<mark>`, everything else is escaped.",
    }),
    rank: Type.Number({ description: "From 0 to 1, where 1 is the best match." }),
    created_at: Timestamp(),
  }),
);
export type SearchHit = Static<typeof SearchHit>;
