const CHECKSUM_LINE = /^([0-9a-fA-F]{64})(?: [ *](.+))?$/;
/** The line format of `sha256sum --tag`, `shasum --tag` and BSD. */
const TAGGED_CHECKSUM_LINE = /^SHA256 \((.+)\) = ([0-9a-fA-F]{64})$/;

export const isChecksum = (text: string): boolean => /^[0-9a-fA-F]{64}$/.test(text);

/**
 * Finds the SHA-256 of the file `name` in the output of sha256sum. Returns it in lowercase, or null if it isn't listed.
 * @param options `isOwnList`: whether the list is for this file alone. If so, a single entry is used even if it has a different name.
 */
export function findChecksum(text: string, name: string, { isOwnList = false } = {}): string | null {
  const entries = text
    .split("\n")
    .map((line) => parseLine(line.trim()))
    .filter((entry) => entry !== null);
  const matchingEntry =
    entries.findLast((entry) => entry.name === name) ?? (isOwnList && entries.length === 1 ? entries[0] : null);
  return matchingEntry?.checksum ?? null;
}

function parseLine(line: string): { name: string; checksum: string } | null {
  const [, checksum, name = ""] = CHECKSUM_LINE.exec(line) ?? [];
  if (checksum !== undefined) return { name: baseName(name), checksum: checksum.toLowerCase() };
  const [, taggedName = "", taggedChecksum] = TAGGED_CHECKSUM_LINE.exec(line) ?? [];
  return taggedChecksum === undefined ? null : { name: baseName(taggedName), checksum: taggedChecksum.toLowerCase() };
}

const baseName = (path: string): string => path.slice(path.lastIndexOf("/") + 1);
