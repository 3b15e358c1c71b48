import { Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import { createInvalidProblem } from "../../lib/problem.ts";
import { Text } from "../../lib/schema.ts";
import { isSingleLine } from "../../lib/text.ts";

/** Maximum length of an email address without surrounding spaces, according to RFC 5321. */
const EMAIL_CHARS_MAX = 254;
/** Maximum length of the input, including surrounding spaces. */
const EMAIL_INPUT_CHARS_MAX = 320;

/** An email address as entered by a user. Surrounding spaces are removed later. */
export const EmailInput = Text({
  minLength: 3,
  maxLength: EMAIL_INPUT_CHARS_MAX,
  description: `An email address with up to ${EMAIL_CHARS_MAX} characters. Case-insensitive.`,
  examples: ["ada@example.com"],
});

const Address = Type.String({ format: "email", maxLength: EMAIL_CHARS_MAX });

/** An email address. `address` is the address as entered, and `key` its normalized form for comparisons. */
export type Email = { address: string; key: string };

/** Parses an email address. @throws Problem `invalid`. */
export function parseEmail(input: string): Email {
  const address = input.trim().normalize("NFC");
  if (!Value.Check(Address, address) || !isSingleLine(address))
    throw createInvalidProblem("#/email", "email must be a valid email address.");
  return { address, key: address.toLowerCase() };
}
