// Finds names that mean two things: exported from two files of src/, and declared in each. `make check` runs it.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";

const src = join(dirname(import.meta.dir), "src");

/** Biome formats every file, so a declaration of a module's own begins its line. A re-export declares nothing. */
const DECLARATION =
  /^export (?:default )?(?:declare )?(?:abstract )?(?:async )?(?:type|interface|class|enum|const|let|function)\*? (\w+)/gm;

/** Where each exported name is declared. A schema and its type share a name, and a file. */
function listDeclarations(): Map<string, Set<string>> {
  const places = new Map<string, Set<string>>();
  for (const file of [...new Bun.Glob("**/*.ts").scanSync(src)].sort())
    for (const [, name = ""] of readFileSync(join(src, file), "utf8").matchAll(DECLARATION)) {
      const files = places.get(name) ?? new Set();
      places.set(name, files.add(`src/${file}`));
    }
  return places;
}

const declarations = listDeclarations();
// Should the pattern ever match nothing, that is no good news.
if (declarations.size < 500) throw new Error(`Only ${declarations.size} exported names were found in src/.`);

const ambiguous = [...declarations].filter(([, files]) => files.size > 1).sort(([a], [b]) => a.localeCompare(b));
for (const [name, files] of ambiguous) console.log(`${name}: ${[...files].join(", ")}`);
if (ambiguous.length > 0) {
  console.error(`${ambiguous.length} names mean two things: rename one of each.`);
  process.exit(1);
}
