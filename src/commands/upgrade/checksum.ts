const LINE = /^([0-9a-fA-F]{64})(?: [ *](.+))?$/;
/** What `sha256sum --tag`, `shasum --tag` and BSD write. */
const TAGGED_LINE = /^SHA256 \((.+)\) = ([0-9a-fA-F]{64})$/;

export const isChecksum = (text: string): boolean => /^[0-9a-fA-F]{64}$/.test(text);

/**
 * The SHA-256 of the file `name` in a list as sha256sum writes it, in lower case; null if it is not listed.
 * @param options `isAlone`: the list belongs to this one file, so that its only entry counts, whatever name it has.
 */
export function readChecksum(text: string, name: string, { isAlone = false } = {}): string | null {
  const entries = text
    .split("\n")
    .map((line) => parseLine(line.trim()))
    .filter((entry) => entry !== null);
  const own = entries.findLast((entry) => entry.name === name) ?? (isAlone && entries.length === 1 ? entries[0] : null);
  return own?.checksum ?? null;
}

function parseLine(line: string): { name: string; checksum: string } | null {
  const [, checksum, name = ""] = LINE.exec(line) ?? [];
  if (checksum !== undefined) return { name: baseName(name), checksum: checksum.toLowerCase() };
  const [, taggedName = "", tagged] = TAGGED_LINE.exec(line) ?? [];
  return tagged === undefined ? null : { name: baseName(taggedName), checksum: tagged.toLowerCase() };
}

const baseName = (path: string): string => path.slice(path.lastIndexOf("/") + 1);
