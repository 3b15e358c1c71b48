import { OneOf } from "../lib/schema.ts";

/** Languages with stemming in Postgres 15; `simple` has none. */
const languages = [
  "simple",
  "arabic",
  "armenian",
  "basque",
  "catalan",
  "danish",
  "dutch",
  "english",
  "finnish",
  "french",
  "german",
  "greek",
  "hindi",
  "hungarian",
  "indonesian",
  "irish",
  "italian",
  "lithuanian",
  "nepali",
  "norwegian",
  "portuguese",
  "romanian",
  "russian",
  "serbian",
  "spanish",
  "swedish",
  "tamil",
  "turkish",
  "yiddish",
] as const;

/** Settings of message search; see docs/search.md. */
export const searchSettings = {
  SEARCH_LANGUAGE: OneOf(languages, {
    default: "english",
    description:
      "Language for word forms in message search: `running` finds `runs`. `simple`: no word forms. Exact words are found in any " +
      "language. After a change, the index is rebuilt in the background.",
  }),
};
