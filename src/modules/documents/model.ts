import { type Static, Type } from "@sinclair/typebox";
import { PageQuery } from "../../http/pagination.ts";
import { Named, SearchText, Timestamp } from "../../lib/schema.ts";

/** UTF-16 units of a search. */
const SEARCH_CHARS_MAX = 300;

const DocumentHeading = Named(
  "DocumentHeading",
  Type.Object({
    level: Type.Integer({ minimum: 1, maximum: 6 }),
    text: Type.String(),
    slug: Type.String({ description: "Its anchor in the HTML form." }),
  }),
);

const summary = {
  path: Type.String({ description: "Below the documents folder, with slashes: `guides/start.md`." }),
  title: Type.String({
    description: "From the front matter, else the first heading of level 1, else the file's name.",
  }),
  size: Type.Integer({ description: "Bytes." }),
  updated_at: Timestamp(),
  headings: Type.Array(DocumentHeading),
};

/** A document in a list; `snippet` and `rank` only in the results of a search. */
export const DocumentSummary = Named(
  "DocumentSummary",
  Type.Object({
    ...summary,
    snippet: Type.Optional(
      Type.String({ description: "HTML: the place that fits best, its words in `<mark>`, all else escaped." }),
    ),
    rank: Type.Optional(Type.Number({ description: "From 0 to 1; the best result comes first." })),
  }),
);
export type DocumentSummary = Static<typeof DocumentSummary>;

export const Document = Named(
  "Document",
  Type.Object({ ...summary, content: Type.String({ description: "The markdown." }) }),
);
export type Document = Static<typeof Document>;

export const DocumentQuery = Type.Object({
  ...PageQuery,
  q: Type.Optional(
    SearchText({
      maxLength: SEARCH_CHARS_MAX,
      description: 'Full text: words, "phrases", `or`, `-not`; best result first.',
    }),
  ),
});
