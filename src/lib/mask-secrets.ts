import { MASK } from "./userinfo.ts";

/** Minimum length of a masked secret and of a masked lowercase word, in UTF-16 code units. */
const SECRET_CHARS_MIN = 6;
const WORD_CHARS_MIN = 16;

/** Whether to mask a secret. Placeholders for servers that need no key, like `ollama` or `EMPTY`, aren't masked. */
export const isWorthMasking = (secret: string): boolean =>
  secret.length >= WORD_CHARS_MIN || (secret.length >= SECRET_CHARS_MIN && !/^[a-z]*$/.test(secret));

/**
 * Creates a function that masks these secrets in a string, even if they are JSON- or URL-encoded. It is the last line of
 * defense, because library errors may contain secrets.
 */
export function createSecretMasker(secrets: readonly string[]): (text: string) => string {
  const encodedSecrets = secrets
    .filter(isWorthMasking)
    .flatMap((secret) => [secret, JSON.stringify(secret).slice(1, -1), encodeURIComponent(secret.toWellFormed())]);
  if (encodedSecrets.length === 0) return (text) => text;
  // The longest is first, because one secret may contain another.
  const sorted = [...new Set(encodedSecrets)].sort((a, b) => b.length - a.length);
  const pattern = new RegExp(sorted.map((form) => form.replaceAll(/[\\^$.*+?()[\]{}|/-]/g, "\\$&")).join("|"), "g");
  return (text) => text.replaceAll(pattern, MASK);
}
