import { MASK } from "./userinfo.ts";

/** Shorter ones, and plain words, stand in too many lines that have nothing to do with them. UTF-16 units. */
const SECRET_CHARS_MIN = 6;
const WORD_CHARS_MIN = 16;

/** Whether it is hidden: placeholders like `ollama` or `EMPTY`, which servers without keys are given, are not. */
export const isTelling = (secret: string): boolean =>
  secret.length >= WORD_CHARS_MIN || (secret.length >= SECRET_CHARS_MIN && !/^[a-z]*$/.test(secret));

/**
 * Makes what masks these secrets in any text, also where JSON or an address has written them its own way. The last line of
 * defence: errors of libraries bring along whatever they were given.
 */
export function createMask(secrets: readonly string[]): (text: string) => string {
  const forms = secrets
    .filter(isTelling)
    .flatMap((secret) => [secret, JSON.stringify(secret).slice(1, -1), encodeURIComponent(secret.toWellFormed())]);
  if (forms.length === 0) return (text) => text;
  // The longest come first, since one may be a part of another.
  const sorted = [...new Set(forms)].sort((one, other) => other.length - one.length);
  const pattern = new RegExp(sorted.map((form) => form.replaceAll(/[\\^$.*+?()[\]{}|/-]/g, "\\$&")).join("|"), "g");
  return (text) => text.replaceAll(pattern, MASK);
}
