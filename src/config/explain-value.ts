import type { TSchema } from "@sinclair/typebox";
import { findHeaderFieldProblem } from "../lib/header-fields.ts";
import { maskAddress } from "../lib/mask-address.ts";
import { findPriceProblem } from "../lib/parse-prices.ts";
import { explainListEntry, explainString } from "./explain-text.ts";
import { suggestNumber } from "./quantities.ts";
import type { SettingOptions } from "./setting-options.ts";
import { findClosest } from "./spelling.ts";

type Schema = TSchema & SettingOptions;

/** Maximum number of UTF-16 code units of an invalid value to show. */
const SHOWN_CHARS_MAX = 100;

/** Formats a value for error messages: truncated, and without passwords in URLs. Secrets are not shown. */
function formatValue({ secret }: SettingOptions, value: unknown): string {
  if (secret) return "the value";
  // Masks before truncating, because a truncated secret might not be recognized.
  const masked = maskAddress(String(value));
  const shortened = masked.length > SHOWN_CHARS_MAX ? `${masked.slice(0, SHOWN_CHARS_MAX)}…` : masked;
  return typeof value === "number" ? shortened : JSON.stringify(shortened);
}

/** Explains why a value or list entry is invalid, and how to fix it. The message follows the setting's name. */
export function explainValue(name: string, schema: Schema, value: unknown): string {
  const quotedValue = formatValue(schema, value);
  if (schema.format === "header-fields") return findHeaderFieldProblem(String(value)) ?? "";
  if (schema.format === "prices") return explainPrices(String(value));
  if (schema.type === "integer" || schema.type === "number") return explainNumber(name, schema, value, quotedValue);
  if (schema.enum)
    return `${quotedValue} is not one of ${schema.enum.join(", ")}; ${suggestChoice(schema.enum, String(value))}.`;
  if (schema.type === "array") return explainListEntry(schema, String(value), quotedValue);
  return explainString(name, schema, String(value), quotedValue);
}

function explainPrices(value: string): string {
  const problem = findPriceProblem(value) ?? "the prices are malformed; write model=input/output.";
  return value.includes(";") ? problem.replace(/\.$/, ", with commas between them, not semicolons.") : problem;
}

function explainNumber(name: string, schema: Schema, value: unknown, quotedValue: string): string {
  const { minimum, maximum, type } = schema;
  const expected = type === "integer" ? "a whole number" : "a number";
  const problem = `${quotedValue} is not ${expected} from ${minimum} to ${maximum}`;
  if (typeof value === "number")
    return `${problem}; set ${value > maximum ? `${maximum} or less` : `${minimum} or more`}.`;
  const isInRange = (number: number | null): number is number =>
    number !== null && number >= minimum && number <= maximum;
  const suggestion = suggestNumber(name, String(value), type === "integer");
  if (isInRange(suggestion)) return `${problem}; write ${suggestion}${describeUnit(name)}.`;
  if (/^(off|none|no|unlimited|infinite|infinity|false|never|-1)$/i.test(String(value))) {
    if (/\b0 means no /.test(schema.description)) return `${problem}; write 0 for no limit.`;
    if (schema.default === undefined) return `${problem}; leave ${name} unset for no limit.`;
  }
  return `${problem}; write digits only${type === "number" ? ", with a point before decimals" : ""}.`;
}

function describeUnit(name: string): string {
  if (name.endsWith("_MS")) return " (milliseconds, without a unit)";
  if (/_BYTES(_|$)/.test(name)) return " (bytes, without a unit)";
  if (name.endsWith("_DAYS")) return " (days, without a unit)";
  return name.includes("_USD_") ? " (US dollars, without a currency sign)" : "";
}

const enableWords = ["true", "yes", "y", "1", "on", "enabled", "enable"];
const disableWords = ["false", "no", "n", "0", "off", "disabled", "disable", "none"];
/** Names that other programs use for Parley's values. */
const synonyms: Record<string, string> = {
  prod: "production",
  live: "production",
  dev: "development",
  test: "development",
  local: "development",
  stage: "staging",
  warning: "warn",
  err: "error",
  critical: "fatal",
  verbose: "debug",
  text: "pretty",
  human: "pretty",
  console: "pretty",
  none: "silent",
  quiet: "silent",
};
/** Maximum Levenshtein distance between an invalid value and the suggested one. */
const EDITS_MAX = 2;

function suggestChoice(choices: readonly string[], value: string): string {
  const word = value.toLowerCase();
  const findChoice = (...words: (string | undefined)[]) =>
    words.find((each) => each !== undefined && choices.includes(each));
  const choice =
    findChoice(word, synonyms[word]) ??
    (enableWords.includes(word) ? findChoice("on", "true", "open") : undefined) ??
    (disableWords.includes(word) ? findChoice("off", "false", "closed", "silent") : undefined) ??
    findClosest(word, choices, Math.min(EDITS_MAX, Math.floor(word.length / 2)));
  return choice === undefined ? "write one of these" : `write ${choice}`;
}
