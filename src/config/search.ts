import { OneOf } from "../lib/schema.ts";

/** Languages whose words Postgres 15 can reduce to stems; `simple`: none. */
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

/** How messages are searched; docs/search.md explains it. */
export const searchSettings = {
  SEARCH_LANGUAGE: OneOf(languages, {
    default: "english",
    description:
      "Language for word forms in message search: `running` finds `runs`. `simple`: no word forms. In every language, words " +
      "are found as they are written. After a change, the index is rebuilt in the background.",
  }),
};
