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
      "Language for stemming in message search. With `english`, `running` also finds `runs`. `simple` turns stemming off. Exact " +
      "words are found in every language. After a change, the index is rebuilt in the background.",
  }),
};
