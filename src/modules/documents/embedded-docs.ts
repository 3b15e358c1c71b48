import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

export type EmbeddedDoc = { path: string; content: string; modifiedAt: string };

/**
 * Reads the guides in docs/, README.md and CHANGELOG.md, sorted by path. It is imported as a macro, which the bundler runs, so that
 * the executable contains the files.
 */
export function readEmbeddedDocs(): EmbeddedDoc[] {
  const root = join(import.meta.dir, "../../..");
  const guides = readdirSync(join(root, "docs"), { encoding: "utf8" })
    .filter((path) => path.endsWith(".md"))
    .map((path) => `docs/${path}`);
  return [...guides, "README.md", "CHANGELOG.md"].sort().map((path) => ({
    path,
    content: readFileSync(join(root, path), "utf8"),
    modifiedAt: statSync(join(root, path)).mtime.toISOString(),
  }));
}
