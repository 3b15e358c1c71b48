import list from "./common-passwords.txt" with { type: "text" };

/** The 10,000 most common passwords, without those that are too short (scripts/common-passwords.ts). */
const common = new Set(list.split("\n").filter((line) => line !== "" && !line.startsWith("#")));
/** Dates among the 10,000 most common passwords, which the list omits. */
for (const date of ["01012009", "01022010"]) common.add(date);

/** Maximum length of a simple pattern. The list omits patterns: repeated characters, keyboard and alphabet sequences. */
const PATTERN_CHARS_MAX = 12;
const repeated = /^(.{1,6}?)\1+$/u;
const rows = ["1234567890", "1234567890-=", "abcdefghijklmnopqrstuvwxyz", "qwertyuiop[]", "asdfghjkl;'", "zxcvbnm,./"];
const runs = rows.flatMap((row) => [row.repeat(2), [...row.repeat(2)].reverse().join("")]);

function isPattern(text: string): boolean {
  if (text.length > PATTERN_CHARS_MAX) return false;
  return repeated.test(text) || runs.some((run) => run.includes(text));
}

/**
 * Returns why a password is easy to guess: it is one of the most common passwords, or the user's own email address. Ignores
 * case and surrounding whitespace. Returns null if neither applies.
 * @param email null if unknown.
 */
export function findWeakness(password: string, email: string | null): "common" | "address" | null {
  const text = fold(password);
  if (common.has(text) || isPattern(text)) return "common";
  if (email === null) return null;
  const address = fold(email);
  return text === address || text === address.slice(0, address.lastIndexOf("@")) ? "address" : null;
}

const fold = (text: string): string => text.normalize("NFKC").trim().toLowerCase();
