import { expect, test } from "bun:test";
import { settingEntries } from "../../src/config/settings.ts";
import { findUnknownNames } from "../../src/config/unknown-names.ts";
import { unrelatedVariables } from "./unrelated-variables.ts";

const names = settingEntries.map(([name]) => name as string);
const knownNames = new Set([
  ...names,
  ...settingEntries.flatMap(([name, { secret }]) => (secret ? [`${name}_FILE`] : [])),
  ...settingEntries.flatMap(([name, { isSystemWide }]) => (isSystemWide ? [name.toLowerCase()] : [])),
]);
const findWarnings = (name: string, value = "x") => findUnknownNames({ [name]: value });

test("other programs' variables aren't mistaken for misspelled settings", () => {
  expect(new Set(unrelatedVariables).size).toBeGreaterThan(350);
  const environment = Object.fromEntries(unrelatedVariables.map((name) => [name, "x"]));
  expect(findUnknownNames(environment)).toEqual([]);
});

test("all settings and the _FILE variants of secrets are known", () => {
  expect(findUnknownNames(Object.fromEntries([...knownNames].map((name) => [name, "x"])))).toEqual([]);
});

test("variables that Kubernetes injects for services cause no warnings", () => {
  for (const service of ["PARLEY", "REDIS", "WEBHOOK", "AI", "OIDC", "QUOTA"])
    expect(
      findUnknownNames({
        [`${service}_SERVICE_HOST`]: "10.0.0.7",
        [`${service}_SERVICE_PORT`]: "80",
        [`${service}_SERVICE_PORT_HTTP`]: "80",
        [`${service}_PORT`]: "tcp://10.0.0.7:80",
        [`${service}_PORT_80_TCP`]: "tcp://10.0.0.7:80",
        [`${service}_PORT_80_TCP_ADDR`]: "10.0.0.7",
        [`${service}_PORT_80_TCP_PROTO`]: "tcp",
      }),
    ).toEqual([]);
  expect(findWarnings("AI_PORT", "80")).toHaveLength(1);
});

/** Returns variants of a name with one or two typos. */
function listMisspellings(name: string): string[] {
  const middleIndex = Math.floor(name.length / 2);
  const swapCharacters = (index: number) =>
    name.slice(0, index) + name.charAt(index + 1) + name.charAt(index) + name.slice(index + 2);
  return [
    name.slice(1),
    name.slice(0, -1),
    name.slice(0, middleIndex) + name.slice(middleIndex + 2),
    `${name}S`,
    `${name.slice(0, middleIndex)}X${name.slice(middleIndex)}`,
    `${name.slice(0, middleIndex)}QQ${name.slice(middleIndex + 2)}`,
    swapCharacters(0),
    swapCharacters(middleIndex),
    swapCharacters(name.length - 2),
    name.replaceAll("_", "-").replace("-", "_").replace("-", "_"),
    name.replace("_", ""),
    name.toLowerCase(),
  ].filter((misspelled) => misspelled !== name && !knownNames.has(misspelled));
}

test("every misspelled setting of seven letters or more causes a warning", () => {
  const longNames = names.filter((name) => name.length >= 7);
  expect(longNames.length).toBeGreaterThan(80);
  const undetected = longNames.flatMap((name) =>
    listMisspellings(name).filter((misspelled) => findWarnings(misspelled).length !== 1),
  );
  // Dashes in place of more than two underscores aren't a typo.
  expect(undetected.filter((name) => (name.match(/-/g)?.length ?? 0) <= 2)).toEqual([]);
});

test("every setting of three words or more causes a warning if one word is missing", () => {
  const undetected: string[] = [];
  for (const name of names) {
    const words = name.split("_");
    if (words.length < 3) continue;
    // Names without their first word, such as API_KEY and BASE_URL, can belong to other programs.
    for (let omittedIndex = 1; omittedIndex < words.length; omittedIndex += 1) {
      const shortName = words.filter((_, index) => index !== omittedIndex).join("_");
      if (!knownNames.has(shortName) && findWarnings(shortName).length !== 1) undetected.push(shortName);
    }
  }
  expect(undetected).toEqual([]);
});

test.each([
  ["AI_MODLES", "did you mean AI_MODELS?"],
  ["OPENAI_KEY", "did you mean OPENAI_API_KEY?"],
  ["ANTHROPIC_API", "did you mean ANTHROPIC_API_KEY?"],
  ["OPENAI_KEY_FILE", "did you mean OPENAI_API_KEY_FILE?"],
  ["CORS_ORIGIN", "did you mean CORS_ORIGINS?"],
  ["APP_EVN", "did you mean APP_ENV?"],
  ["Database_Url", "did you mean DATABASE_URL?"],
  ["COMPATIBLE_MODEL", "remove it, or find the correct name in `parley config`."],
])("%s causes a warning with its name and a remedy", (name, remedy) => {
  const value = "s3cret-value";
  expect(findWarnings(name, value)).toEqual([`${name} is not a Parley setting and has no effect; ${remedy}`]);
});

test("warnings state whether a name comes from .env, and thousands of names are summarized in a few lines", () => {
  expect(findUnknownNames({ AI_MODLES: "x" }, () => true)[0]).toStartWith("AI_MODLES in .env is not");
  const manyVariables = Object.fromEntries(Array.from({ length: 5_000 }, (_, index) => [`AI_${index}`, "x"]));
  const lines = findUnknownNames(manyVariables);
  expect(lines).toHaveLength(21);
  expect(lines.at(-1)).toStartWith("4980 more variables");
  expect(findWarnings(`AI_${"\x1b[31m"}\n${"X".repeat(10_000)}`).join("")).toMatch(/^[ -~]{1,250}$/);
});
