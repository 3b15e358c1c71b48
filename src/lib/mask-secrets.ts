import { MASK } from "./userinfo.ts";

/** In UTF-16 units. Shorter secrets and words aren't masked, because they appear in too many unrelated lines. */
const SECRET_CHARS_MIN = 6;
const WORD_CHARS_MIN = 16;

/** Whether to mask a secret. Placeholders for servers that need no key, like `ollama` or `EMPTY`, aren't masked. */
export const isWorthMasking = (secret: string): boolean =>
  secret.length >= WORD_CHARS_MIN || (secret.length >= SECRET_CHARS_MIN && !/^[a-z]*$/.test(secret));

/**
 * Creates a function that masks these secrets in any text, including their JSON- and URL-encoded forms. This is the last line
 * of defense, because errors of libraries may contain their input.
 */
export function createMask(secrets: readonly string[]): (text: string) => string {
  const forms = secrets
    .filter(isWorthMasking)
    .flatMap((secret) => [secret, JSON.stringify(secret).slice(1, -1), encodeURIComponent(secret.toWellFormed())]);
  if (forms.length === 0) return (text) => text;
  // Longest first, because one may contain another.
  const sorted = [...new Set(forms)].sort((one, other) => other.length - one.length);
  const pattern = new RegExp(sorted.map((form) => form.replaceAll(/[\\^$.*+?()[\]{}|/-]/g, "\\$&")).join("|"), "g");
  return (text) => text.replaceAll(pattern, MASK);
}
