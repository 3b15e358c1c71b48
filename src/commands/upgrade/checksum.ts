const LINE = /^([0-9a-fA-F]{64})(?: [ *](.+))?$/;
/** The format of `sha256sum --tag`, `shasum --tag` and BSD. */
const TAGGED_LINE = /^SHA256 \((.+)\) = ([0-9a-fA-F]{64})$/;

export const isChecksum = (text: string): boolean => /^[0-9a-fA-F]{64}$/.test(text);

/**
 * Finds the SHA-256 of the file `name` in a list in sha256sum's format. Returns it in lowercase, or null if it isn't listed.
 * @param options `isAlone`: the list belongs to this file only, so a single entry is used whatever its name is.
 */
export function readChecksum(text: string, name: string, { isAlone = false } = {}): string | null {
  const entries = text
    .split("\n")
    .map((line) => parseLine(line.trim()))
    .filter((entry) => entry !== null);
  const matching =
    entries.findLast((entry) => entry.name === name) ?? (isAlone && entries.length === 1 ? entries[0] : null);
  return matching?.checksum ?? null;
}

function parseLine(line: string): { name: string; checksum: string } | null {
  const [, checksum, name = ""] = LINE.exec(line) ?? [];
  if (checksum !== undefined) return { name: baseName(name), checksum: checksum.toLowerCase() };
  const [, taggedName = "", tagged] = TAGGED_LINE.exec(line) ?? [];
  return tagged === undefined ? null : { name: baseName(taggedName), checksum: tagged.toLowerCase() };
}

const baseName = (path: string): string => path.slice(path.lastIndexOf("/") + 1);
