import { createInvalid } from "../../lib/problem.ts";
import { VisibleText } from "../../lib/schema.ts";
import { isLine, isVisible } from "../../lib/text.ts";

/** UTF-16 units after trimming. */
const DISPLAY_NAME_CHARS_MAX = 80;
const DISPLAY_NAME_INPUT_CHARS_MAX = 200;

/** The fallback name. */
const NAMELESS = "Unnamed";

/** A name as typed; surrounding spaces are removed. */
export const DisplayNameInput = VisibleText({
  minLength: 1,
  maxLength: DISPLAY_NAME_INPUT_CHARS_MAX,
  description: `The name shown to others: 1 to ${DISPLAY_NAME_CHARS_MAX} characters, at least one visible, no control characters.`,
  examples: ["Ada Lovelace"],
});

/** @throws Problem `invalid` if the name is empty, too long or invisible. */
export function parseDisplayName(input: string): string {
  const name = input.trim().normalize("NFC");
  const detail =
    name.length < 1 || name.length > DISPLAY_NAME_CHARS_MAX
      ? `display_name must have 1 to ${DISPLAY_NAME_CHARS_MAX} characters.`
      : !isLine(name)
        ? "display_name must be one line without control characters."
        : !isVisible(name)
          ? "display_name must contain a visible character."
          : null;
  if (detail) throw createInvalid("#/display_name", detail);
  return name;
}

/** The issuer's name for a user, made valid; otherwise the part of the address before the @. */
export function fitDisplayName(name: string | null, email: string): string {
  const cut = name?.trim().slice(0, DISPLAY_NAME_CHARS_MAX) ?? "";
  const isFit = isLine(cut) && isVisible(cut);
  return isFit ? parseDisplayName(cut) : createDisplayName(email);
}

/** The default name: the part of the address before the @. */
export function createDisplayName(email: string): string {
  const name = email.slice(0, email.lastIndexOf("@"));
  const cut = name.slice(0, DISPLAY_NAME_CHARS_MAX);
  return isVisible(cut) ? (cut.isWellFormed() ? cut : cut.slice(0, -1)) : NAMELESS;
}
