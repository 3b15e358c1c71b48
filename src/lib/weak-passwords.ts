import passwordList from "./common-passwords.txt" with { type: "text" };

/** The 10,000 most common passwords, without those that are too short (scripts/common-passwords.ts). */
const commonPasswords = new Set(passwordList.split("\n").filter((line) => line !== "" && !line.startsWith("#")));
/** The file omits dates. These two are among the 10,000 most common passwords. */
for (const date of ["01012009", "01022010"]) commonPasswords.add(date);

/** Maximum length of a simple pattern. The list omits patterns: repeated characters, keyboard and alphabet sequences. */
const PATTERN_CHARS_MAX = 12;
const repeatedPattern = /^(.{1,6}?)\1+$/u;
const keyboardRows = [
  "1234567890",
  "1234567890-=",
  "abcdefghijklmnopqrstuvwxyz",
  "qwertyuiop[]",
  "asdfghjkl;'",
  "zxcvbnm,./",
];
const keySequences = keyboardRows.flatMap((row) => [row.repeat(2), [...row.repeat(2)].reverse().join("")]);

function isPattern(text: string): boolean {
  if (text.length > PATTERN_CHARS_MAX) return false;
  return repeatedPattern.test(text) || keySequences.some((run) => run.includes(text));
}

/**
 * Returns why a password is easy to guess: it is one of the most common passwords, or the user's own email address. Ignores
 * case and surrounding whitespace. Returns null if neither applies.
 * @param email null if unknown.
 */
export function findPasswordWeakness(password: string, email: string | null): "common" | "address" | null {
  const text = normalizeForComparison(password);
  if (commonPasswords.has(text) || isPattern(text)) return "common";
  if (email === null) return null;
  const address = normalizeForComparison(email);
  return text === address || text === address.slice(0, address.lastIndexOf("@")) ? "address" : null;
}

const normalizeForComparison = (text: string): string => text.normalize("NFKC").trim().toLowerCase();
