import { Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import { createInvalid } from "../../lib/problem.ts";
import { Text } from "../../lib/schema.ts";
import { isLine } from "../../lib/text.ts";

/** The longest practical e-mail address according to RFC 5321, after trimming. */
const EMAIL_CHARS_MAX = 254;
/** Maximum length of the input, including surrounding spaces. */
const EMAIL_INPUT_CHARS_MAX = 320;

/** An e-mail address as entered by a user; surrounding spaces are removed. */
export const EmailInput = Text({
  minLength: 3,
  maxLength: EMAIL_INPUT_CHARS_MAX,
  description: `An e-mail address of up to ${EMAIL_CHARS_MAX} characters, case-insensitive.`,
  examples: ["ada@example.com"],
});

const Address = Type.String({ format: "email", maxLength: EMAIL_CHARS_MAX });

/** An e-mail address: `address` as entered, and `key`, its normalized form for comparison. */
export type Email = { address: string; key: string };

/** Parses an e-mail address. @throws Problem `invalid` if it isn't one. */
export function parseEmail(input: string): Email {
  const address = input.trim().normalize("NFC");
  if (!Value.Check(Address, address) || !isLine(address))
    throw createInvalid("#/email", "email must be a valid e-mail address.");
  return { address, key: address.toLowerCase() };
}
