// Writes src/lib/common-passwords.txt from the ranked list of @zxcvbn-ts/language-common (MIT), without passwords that are
// too short to be accepted anyway.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { dictionary } from "@zxcvbn-ts/language-common";

/** How many of the most common passwords to include. */
const RANKS = 10_000;
const CHARS_MIN = 8;

export function createCommonPasswords(): string {
  const long = dictionary["passwords-common"].slice(0, RANKS).map((password) => password.toLowerCase());
  const notice =
    "# From @zxcvbn-ts/language-common (MIT License, Copyright (c) 2012-2016 Dan Wheeler and Dropbox, Inc.)";
  return `${[notice, ...long.filter((password) => password.length >= CHARS_MIN)].join("\n")}\n`;
}

if (import.meta.main) writeFileSync(join(import.meta.dir, "../src/lib/common-passwords.txt"), createCommonPasswords());
