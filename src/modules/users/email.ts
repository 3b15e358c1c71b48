import { Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import { createInvalid } from "../../lib/problem.ts";
import { Text } from "../../lib/schema.ts";
import { isLine } from "../../lib/text.ts";

/** The longest practical address according to RFC 5321. Applies after trimming. */
const EMAIL_CHARS_MAX = 254;
/** Longer input is rejected unread; allows for surrounding spaces. */
const EMAIL_INPUT_CHARS_MAX = 320;

/** An address as typed; surrounding spaces are removed. */
export const EmailInput = Text({
  minLength: 3,
  maxLength: EMAIL_INPUT_CHARS_MAX,
  description: `An e-mail address of up to ${EMAIL_CHARS_MAX} characters, case-insensitive.`,
  examples: ["ada@example.com"],
});

const Address = Type.String({ format: "email", maxLength: EMAIL_CHARS_MAX });

/** `shown` is the address as typed, `key` its normalized form for comparison. */
export type Email = { shown: string; key: string };

/** @throws Problem `invalid` if it isn't an e-mail address. */
export function parseEmail(input: string): Email {
  const shown = input.trim().normalize("NFC");
  if (!Value.Check(Address, shown) || !isLine(shown))
    throw createInvalid("#/email", "email must be a valid e-mail address.");
  return { shown, key: shown.toLowerCase() };
}
