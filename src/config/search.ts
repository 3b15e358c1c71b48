import { OneOf } from "../lib/schema.ts";

/** Text search configurations of Postgres 15. All except `simple` use stemming. */
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
      "Language of word forms in message search: in `english`, `running` also finds `runs`. `simple` finds only exact words. Exact " +
      "words are found in any language. After a change, the index is rebuilt in the background.",
  }),
};
