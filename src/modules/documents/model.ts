import { type Static, Type } from "@sinclair/typebox";
import { PageQuery } from "../../http/pagination.ts";
import { Named, SearchText, Timestamp } from "../../lib/schema.ts";

/** Maximum length of a search query, in UTF-16 code units. */
const SEARCH_CHARS_MAX = 300;

const DocumentHeading = Named(
  "DocumentHeading",
  Type.Object({
    level: Type.Integer({ minimum: 1, maximum: 6 }),
    text: Type.String(),
    slug: Type.String({ description: "The heading's anchor in the HTML format." }),
  }),
);

const summary = {
  path: Type.String({ description: "Relative to the documents folder, with slashes: `guides/start.md`." }),
  title: Type.String({
    description: "From the front matter, the first level-1 heading, or the file name.",
  }),
  size: Type.Integer({ description: "The file's size in bytes." }),
  updated_at: Timestamp(),
  headings: Type.Array(DocumentHeading),
};

/** A document in a list. Only search results have `snippet` and `rank`. */
export const DocumentSummary = Named(
  "DocumentSummary",
  Type.Object({
    ...summary,
    snippet: Type.Optional(
      Type.String({
        description: "The best matching excerpt, as HTML with matches in `<mark>` and everything else escaped.",
      }),
    ),
    rank: Type.Optional(Type.Number({ description: "From 0 to 1. The best match comes first." })),
  }),
);
export type DocumentSummary = Static<typeof DocumentSummary>;

export const Document = Named(
  "Document",
  Type.Object({ ...summary, content: Type.String({ description: "The Markdown source." }) }),
);
export type Document = Static<typeof Document>;

export const DocumentQuery = Type.Object({
  ...PageQuery,
  q: Type.Optional(
    SearchText({
      maxLength: SEARCH_CHARS_MAX,
      description: 'Full-text search with words, "phrases", `or` and `-not`. The best match comes first.',
    }),
  ),
});
