import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";

/** The folder of the files under test. */
export const deployFolder = join(import.meta.dir, "../../deploy");

/**
 * The documents of a YAML file. Anchors are merged, as Docker and kubectl do.
 * @throws Error if the YAML is invalid, or has duplicate keys in a mapping.
 */
export function readYaml(path: string): unknown[] {
  return parseAllDocuments(readFileSync(path, "utf8"), { merge: true, uniqueKeys: true }).map((document) => {
    const [problem] = [...document.errors, ...document.warnings];
    if (problem) throw problem;
    return document.toJS();
  });
}
