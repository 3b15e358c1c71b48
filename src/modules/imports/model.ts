import { type Static, Type } from "@sinclair/typebox";
import { Closed, Named, Nullable, OneOf, Timestamp, Uuid } from "../../lib/schema.ts";

export const ImportSource = OneOf(["chatgpt", "claude"], { description: "The product that made the export." });
export type ImportSource = Static<typeof ImportSource>;

/** Maximum number of entries in a report. Further entries are only counted (keep in sync with sql/functions/import_messages.sql). */
export const NOTES_MAX = 1_000;

const ImportNote = Named(
  "ImportNote",
  Closed({ title: Type.String({ description: "The conversation's title; may be empty." }), reason: Type.String() }),
);
export type ImportNote = Static<typeof ImportNote>;

const summaryFields = {
  id: Uuid(),
  source: ImportSource,
  status: OneOf(["queued", "running", "done", "failed"]),
  bytes: Type.Integer({ description: "Size of the uploaded file." }),
  conversations: Type.Integer({ description: "Number of conversations processed: imported or skipped." }),
  imported: Type.Integer({ description: "Number of imported conversations." }),
  skipped: Type.Integer({ description: "Number of skipped conversations; the report contains the reasons." }),
  messages: Type.Integer({ description: "Number of messages in the imported conversations." }),
  error: Nullable(Closed({ code: Type.String(), detail: Type.String() }), {
    description: "The reason why the import failed. Conversations imported before the failure are kept.",
  }),
  created_at: Timestamp(),
  finished_at: Nullable(Timestamp()),
};

/** An import in a list, without its report. */
export const ImportSummary = Named("ImportSummary", Closed(summaryFields));
export type ImportSummary = Static<typeof ImportSummary>;

export const Import = Named(
  "Import",
  Closed({
    ...summaryFields,
    report: Type.Array(ImportNote, {
      description: `The first ${NOTES_MAX} conversations that were skipped or imported incompletely.`,
    }),
    report_omitted: Type.Integer({ description: "Number of entries that didn't fit in `report` and were discarded." }),
  }),
);
export type Import = Static<typeof Import>;
