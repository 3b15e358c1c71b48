const LINE = /^([0-9a-fA-F]{64})(?: [ *](.+))?$/;
/** Written by `sha256sum --tag`, `shasum --tag` and BSD. */
const TAGGED_LINE = /^SHA256 \((.+)\) = ([0-9a-fA-F]{64})$/;

export const isChecksum = (text: string): boolean => /^[0-9a-fA-F]{64}$/.test(text);

/**
 * The SHA-256 of the file `name` in a list in sha256sum's format, in lowercase; null if it isn't listed.
 * @param options `isAlone`: the list belongs to this file only, so its single entry counts regardless of its name.
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
