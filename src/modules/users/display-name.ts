import { createInvalidProblem } from "../../lib/problem.ts";
import { VisibleText } from "../../lib/schema.ts";
import { hasVisibleCharacter, isSingleLine } from "../../lib/text.ts";

/** Maximum length of a display name after trimming, in UTF-16 code units. */
const DISPLAY_NAME_CHARS_MAX = 80;
const DISPLAY_NAME_INPUT_CHARS_MAX = 200;

/** The name of a user whose email address contains no visible name. */
const FALLBACK_NAME = "Unnamed";

/** A name as entered by a user. Surrounding spaces are removed later. */
export const DisplayNameInput = VisibleText({
  minLength: 1,
  maxLength: DISPLAY_NAME_INPUT_CHARS_MAX,
  description: `The name that other users see: 1 to ${DISPLAY_NAME_CHARS_MAX} characters, at least one of them visible, without control characters.`,
  examples: ["Ada Lovelace"],
});

/** Normalizes a name. @throws Problem `invalid` if it is empty, too long or invisible. */
export function parseDisplayName(input: string): string {
  const name = input.trim().normalize("NFC");
  const detail =
    name.length < 1 || name.length > DISPLAY_NAME_CHARS_MAX
      ? `display_name must have 1 to ${DISPLAY_NAME_CHARS_MAX} characters.`
      : !isSingleLine(name)
        ? "display_name must be one line without control characters."
        : !hasVisibleCharacter(name)
          ? "display_name must contain a visible character."
          : null;
  if (detail) throw createInvalidProblem("#/display_name", detail);
  return name;
}

/**
 * Converts the issuer's name for a user to a valid display name. If that isn't possible, uses the part of the email address before
 * the @.
 */
export function deriveDisplayName(name: string | null, email: string): string {
  const truncated = name?.trim().slice(0, DISPLAY_NAME_CHARS_MAX) ?? "";
  const isValid = isSingleLine(truncated) && hasVisibleCharacter(truncated);
  return isValid ? parseDisplayName(truncated) : createDisplayName(email);
}

/** Creates the default display name from the part of the email address before the @. */
export function createDisplayName(email: string): string {
  const name = email.slice(0, email.lastIndexOf("@"));
  const shortened = name.slice(0, DISPLAY_NAME_CHARS_MAX);
  return hasVisibleCharacter(shortened)
    ? shortened.isWellFormed()
      ? shortened
      : shortened.slice(0, -1)
    : FALLBACK_NAME;
}
