import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

export type EmbeddedDoc = { path: string; content: string; modifiedAt: string };

/** Documents for developers of Parley, not for its users. */
const isForMaintainers = (path: string): boolean => path.startsWith("decisions/") || path === "architecture.md";

/**
 * The guides of docs/, sorted by path. Imported as a macro: the bundler runs it, so the executable contains the texts.
 */
export function readEmbeddedDocs(): EmbeddedDoc[] {
  const folder = join(import.meta.dir, "../../../docs");
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .map((path) => path.replaceAll("\\", "/"))
    .filter((path) => path.endsWith(".md") && !isForMaintainers(path))
    .sort()
    .map((path) => ({
      path,
      content: readFileSync(join(folder, path), "utf8"),
      modifiedAt: statSync(join(folder, path)).mtime.toISOString(),
    }));
}
