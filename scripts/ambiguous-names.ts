// Finds confusing names in src/: names that two files export, and names with an unusual word for which there is a
// standard term. `make check` runs it.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";

const srcFolder = join(dirname(import.meta.dir), "src");

/** Matches an exported declaration. Biome's format puts these at the start of a line. Re-exports don't match. */
const DECLARATION =
  /^export (?:default )?(?:declare )?(?:abstract )?(?:async )?(?:type|interface|class|enum|const|let|function)\*? (\w+)/gm;

/** Words that names must not contain, and their replacements. Names in snake_case are exempt: they are wire or SQL names. */
const UNCLEAR_WORDS: Readonly<Record<string, string>> = {
  beat: "heartbeat",
  beats: "heartbeats",
  bystander: "other user",
  deaf: "missed, broken",
  hear: "onMessage, onReceived",
  heard: "received, subscribed",
  heir: "new owner",
  hole: "gap",
  hurry: "stopNow",
  judge: "check",
  leg: "attempt",
  maker: "vendor",
  mend: "fix, remedy",
  minding: "supervision",
  outlet: "sink",
  outrun: "lost race",
  parcel: "batch",
  said: "output, message",
  seam: "overlap, separator",
  stranger: "outsider",
  tell: "notify, publish, send",
  told: "sent, notified, logged",
  tries: "attempts",
  untold: "pending",
};

/** Matches comments and strings, but not template literals, which may contain code. */
const COMMENTS_AND_STRINGS = /\/\*[\s\S]*?\*\/|(?<![:"'`\\])\/\/[^\n]*|"(?:[^"\\\n]|\\.)*"/g;

const declarations = new Map<string, Set<string>>();
const problemsByName = new Map<string, string>();
for (const file of [...new Bun.Glob("**/*.ts").scanSync(srcFolder)].sort()) {
  const text = readFileSync(join(srcFolder, file), "utf8");
  for (const [, name = ""] of text.matchAll(DECLARATION))
    declarations.set(name, (declarations.get(name) ?? new Set()).add(`src/${file}`));
  for (const [name] of text.replaceAll(COMMENTS_AND_STRINGS, " ").matchAll(/[A-Za-z_$][\w$]*/g)) {
    if (/[a-z]_|_[a-z]/.test(name)) continue;
    const word = name
      .match(/[A-Z]?[a-z]+|[A-Z]+(?![a-z])/g)
      ?.find((part) => Object.hasOwn(UNCLEAR_WORDS, part.toLowerCase()));
    if (word) problemsByName.set(name, `${name} (src/${file}): use ${UNCLEAR_WORDS[word.toLowerCase()]}`);
  }
}

// Fails if DECLARATION no longer matches the sources.
if (declarations.size < 500) throw new Error(`Only ${declarations.size} exported names were found in src/.`);

const ambiguousNames = [...declarations].filter(([, files]) => files.size > 1).sort(([a], [b]) => a.localeCompare(b));
for (const [name, files] of ambiguousNames) console.log(`${name}: ${[...files].join(", ")}`);
for (const problem of problemsByName.values()) console.log(problem);
if (ambiguousNames.length > 0)
  console.error(`${ambiguousNames.length} names have two meanings: rename one of each pair.`);
if (problemsByName.size > 0)
  console.error(`${problemsByName.size} names contain an unclear word: use the standard term.`);
if (ambiguousNames.length + problemsByName.size > 0) process.exit(1);
