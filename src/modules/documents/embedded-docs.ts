import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

export type EmbeddedDoc = { path: string; content: string; modifiedAt: string };

/** Whether a document is meant for Parley's developers, not for its users. */
const isForMaintainers = (path: string): boolean => path.startsWith("decisions/") || path === "architecture.md";

/**
 * Reads the guides in docs/, sorted by path. It is imported as a macro: the bundler runs it, so that the executable
 * contains the guides.
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
