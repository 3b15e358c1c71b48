import { Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import { createInvalid } from "../../lib/problem.ts";
import { Text } from "../../lib/schema.ts";
import { isLine } from "../../lib/text.ts";

/** RFC 5321 allows no longer address in practice. Applies after trimming. */
const EMAIL_CHARS_MAX = 254;
/** What is looked at at all: an address with blanks around it. */
const EMAIL_INPUT_CHARS_MAX = 320;

/** An address as it is typed; blanks around it are dropped. */
export const EmailInput = Text({
  minLength: 3,
  maxLength: EMAIL_INPUT_CHARS_MAX,
  description: `An e-mail address of up to ${EMAIL_CHARS_MAX} characters. Upper and lower case are the same.`,
  examples: ["ada@example.com"],
});

const Address = Type.String({ format: "email", maxLength: EMAIL_CHARS_MAX });

/** `shown` is the address as typed, `key` the form in which addresses are compared. */
export type Email = { shown: string; key: string };

/** @throws Problem `invalid` when it is no e-mail address. */
export function parseEmail(input: string): Email {
  const shown = input.trim().normalize("NFC");
  if (!Value.Check(Address, shown) || !isLine(shown))
    throw createInvalid("#/email", "email must be an e-mail address.");
  return { shown, key: shown.toLowerCase() };
}
