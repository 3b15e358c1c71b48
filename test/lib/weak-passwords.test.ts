import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createCommonPasswords } from "../../scripts/common-passwords.ts";
import { findPasswordWeakness } from "../../src/lib/weak-passwords.ts";

test("the list of common passwords equals the output of scripts/common-passwords.ts", () => {
  const file = join(import.meta.dir, "../../src/lib/common-passwords.txt");
  expect(readFileSync(file, "utf8")).toBe(createCommonPasswords());
});

test("the most common passwords are weak, even with different capitalization or surrounding spaces", () => {
  const commonPasswords = [
    "password",
    "12345678",
    "Password1",
    "IloveYOU",
    "qwertyuiop",
    "1q2w3e4r",
    "trustno1",
    "p@ssw0rd",
  ];
  for (const password of [...commonPasswords, " password ", "ｐａｓｓｗｏｒｄ", "PASSWORD123", "liverpool", "01012009"])
    expect({ password, weakness: findPasswordWeakness(password, null) }).toEqual({ password, weakness: "common" });
});

test("repetitions and sequences are weak even if they aren't in the list", () => {
  const repetitions = ["aaaaaaaa", "88888888", "12341234", "abcABCabc", "qwertyqwerty", "1234512345", "xyxyxyxyxy"];
  const sequences = [
    "87654321",
    "0987654321",
    "abcdefgh",
    "HGFEDCBA",
    "poiuytrewq",
    "asdfghjkl",
    "lkjhgfds",
    "1234567890-",
  ];
  for (const password of [...repetitions, ...sequences])
    expect({ password, weakness: findPasswordWeakness(password, null) }).toEqual({ password, weakness: "common" });
});

test("other passwords are accepted, even if they contain a common one", () => {
  for (const password of ["correct horse battery", "password of mine", "kx4_pq9z", "x".repeat(128), "12345678 apples"])
    expect({ password, weakness: findPasswordWeakness(password, "ada@example.com") }).toEqual({
      password,
      weakness: null,
    });
});

test("the user's email address and the part before its @ are weak", () => {
  const email = "Ada.Lovelace@Example.com";
  for (const password of ["ada.lovelace@example.com", " ADA.LOVELACE@EXAMPLE.COM", "Ada.Lovelace"])
    expect(findPasswordWeakness(password, email)).toBe("address");
  for (const password of ["grace.hopper@example.com", "ada.lovelace@example.org", "ada.lovelace2"])
    expect(findPasswordWeakness(password, email)).toBeNull();
});
