// Writes src/lib/common-passwords.txt out of the ranked list of @zxcvbn-ts/language-common (MIT): the passwords that are long
// enough to be chosen at all.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { dictionary } from "@zxcvbn-ts/language-common";

/** Ranks that are compared. */
const RANKS = 10_000;
const CHARS_MIN = 8;

export function createCommonPasswords(): string {
  const long = dictionary["passwords-common"].slice(0, RANKS).map((password) => password.toLowerCase());
  const notice =
    "# From @zxcvbn-ts/language-common (MIT License, Copyright (c) 2012-2016 Dan Wheeler and Dropbox, Inc.)";
  return `${[notice, ...long.filter((password) => password.length >= CHARS_MIN)].join("\n")}\n`;
}

if (import.meta.main) writeFileSync(join(import.meta.dir, "../src/lib/common-passwords.txt"), createCommonPasswords());
