// Finds ambiguous names: declared in, and exported from, two files of src/. `make check` runs it.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";

const src = join(dirname(import.meta.dir), "src");

/** Biome formats every file, so a top-level declaration begins its line. Re-exports don't count. */
const DECLARATION =
  /^export (?:default )?(?:declare )?(?:abstract )?(?:async )?(?:type|interface|class|enum|const|let|function)\*? (\w+)/gm;

/** The files that declare each exported name. A schema and its type share a name and a file. */
function listDeclarations(): Map<string, Set<string>> {
  const filesByName = new Map<string, Set<string>>();
  for (const file of [...new Bun.Glob("**/*.ts").scanSync(src)].sort())
    for (const [, name = ""] of readFileSync(join(src, file), "utf8").matchAll(DECLARATION)) {
      const files = filesByName.get(name) ?? new Set();
      filesByName.set(name, files.add(`src/${file}`));
    }
  return filesByName;
}

const declarations = listDeclarations();
// A pattern that no longer matches must not pass as success.
if (declarations.size < 500) throw new Error(`Only ${declarations.size} exported names were found in src/.`);

const ambiguous = [...declarations].filter(([, files]) => files.size > 1).sort(([a], [b]) => a.localeCompare(b));
for (const [name, files] of ambiguous) console.log(`${name}: ${[...files].join(", ")}`);
if (ambiguous.length > 0) {
  console.error(`${ambiguous.length} names have two meanings: rename one of each pair.`);
  process.exit(1);
}
