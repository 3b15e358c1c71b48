import { MASK } from "./userinfo.ts";

/** In UTF-16 units. Shorter secrets and plain words appear in too many unrelated lines. */
const SECRET_CHARS_MIN = 6;
const WORD_CHARS_MIN = 16;

/** Whether it is hidden: placeholders like `ollama` or `EMPTY`, which servers without keys are given, are not. */
export const isWorthMasking = (secret: string): boolean =>
  secret.length >= WORD_CHARS_MIN || (secret.length >= SECRET_CHARS_MIN && !/^[a-z]*$/.test(secret));

/**
 * Creates a function that masks these secrets in any text, including their JSON- and URL-encoded forms. The last line of
 * defense: errors of libraries may contain their input.
 */
export function createMask(secrets: readonly string[]): (text: string) => string {
  const forms = secrets
    .filter(isWorthMasking)
    .flatMap((secret) => [secret, JSON.stringify(secret).slice(1, -1), encodeURIComponent(secret.toWellFormed())]);
  if (forms.length === 0) return (text) => text;
  // Longest first, since one may be part of another.
  const sorted = [...new Set(forms)].sort((one, other) => other.length - one.length);
  const pattern = new RegExp(sorted.map((form) => form.replaceAll(/[\\^$.*+?()[\]{}|/-]/g, "\\$&")).join("|"), "g");
  return (text) => text.replaceAll(pattern, MASK);
}
