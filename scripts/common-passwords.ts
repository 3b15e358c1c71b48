// Writes src/lib/common-passwords.txt: the most common passwords in the ranked list of @zxcvbn-ts/language-common (MIT).
// Passwords that are too short to be accepted are left out.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { dictionary } from "@zxcvbn-ts/language-common";

/** Number of passwords considered, from the top of the ranked list. */
const CANDIDATE_COUNT = 10_000;
const PASSWORD_LENGTH_MIN = 8;

export function createCommonPasswords(): string {
  const candidates = dictionary["passwords-common"].slice(0, CANDIDATE_COUNT).map((password) => password.toLowerCase());
  const notice =
    "# From @zxcvbn-ts/language-common (MIT License, Copyright (c) 2012-2016 Dan Wheeler and Dropbox, Inc.)";
  return `${[notice, ...candidates.filter((password) => password.length >= PASSWORD_LENGTH_MIN)].join("\n")}\n`;
}

if (import.meta.main) writeFileSync(join(import.meta.dir, "../src/lib/common-passwords.txt"), createCommonPasswords());
