import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";

export const deployFolder = join(import.meta.dir, "../../deploy");

/**
 * Returns the documents of a YAML file, with merge keys resolved as Docker and kubectl do.
 * @throws Error if the YAML is invalid or a mapping has duplicate keys.
 */
export function readYaml(path: string): unknown[] {
  return parseAllDocuments(readFileSync(path, "utf8"), { merge: true, uniqueKeys: true }).map((document) => {
    const [problem] = [...document.errors, ...document.warnings];
    if (problem) throw problem;
    return document.toJS();
  });
}
