import type { Price, PriceTable } from "./prices.ts";

/** Maximum plausible price, in US dollars per million tokens. */
const PRICE_MAX = 100_000;

const columns = ["input", "output", "cached_input", "cache_write"] as const;
type Column = (typeof columns)[number];

const isPrice = (value: unknown): value is number =>
  typeof value === "number" && Number.isFinite(value) && value >= 0 && value <= PRICE_MAX;

const isColumn = (name: string): name is Column => (columns as readonly string[]).includes(name);

const numberPattern = String.raw`\d+(?:\.\d+)?`;
const pairPattern = new RegExp(String.raw`^([^\s=,]+/[^\s=,]+)=(${numberPattern}(?:/${numberPattern}){1,3})$`);

/** An entry of the setting. `price` is null if it is invalid, and `originalText` is the operator's text. */
type Entry = { model: string; price: Price | null; originalText: string };

/**
 * Parses configured prices: comma-separated `model=input/output[/cached_input[/cache_write]]`, or JSON
 * `{"model": {"input": 1, "output": 2, "cached_input": 0.1, "cache_write": 1.25}}`, where the last two are optional.
 * @returns null if the text is invalid.
 */
export function parsePrices(text: string): PriceTable | null {
  const prices: Record<string, Price> = {};
  for (const { model, price } of parseEntries(text)) {
    if (!price) return null;
    prices[model] = price;
  }
  return prices;
}

/** Explains in a sentence why configured prices are invalid. Returns null if they are valid. */
export function findPriceProblem(text: string): string | null {
  const invalid = parseEntries(text).find(({ price }) => !price);
  if (!invalid) return null;
  return (
    `${JSON.stringify(invalid.originalText)} is not a price; write model=input/output[/cached_input[/cache_write]] in USD per million ` +
    `tokens, or JSON with these names, and numbers from 0 to ${PRICE_MAX}.`
  );
}

const parseEntries = (text: string): Entry[] =>
  text.trimStart().startsWith("{") ? parseJsonEntries(text) : parsePairs(text);

function parsePairs(text: string): Entry[] {
  const parts = text.split(",").map((part) => part.trim());
  return parts
    .filter((part) => part !== "")
    .map((originalText) => {
      const [, model = "", numbers = ""] = pairPattern.exec(originalText) ?? [];
      const namedPrices = numbers.split("/").map((value, index) => [columns[index], Number(value)]);
      return { model, price: model === "" ? null : toPrice(Object.fromEntries(namedPrices)), originalText };
    });
}

function parseJsonEntries(text: string): Entry[] {
  let parsed: Record<string, unknown>;
  try {
    parsed = JSON.parse(text) as Record<string, unknown>;
  } catch {
    return [{ model: "", price: null, originalText: text }];
  }
  return Object.entries(parsed).map(([model, value]) => ({
    model,
    price: toPrice(value),
    originalText: JSON.stringify({ [model]: value }),
  }));
}

/** Converts a value to a price, or null if it isn't one. Unknown columns are invalid, because they may be misspelled. */
function toPrice(value: unknown): Price | null {
  if (typeof value !== "object" || value === null) return null;
  const numbers = Object.entries(value);
  if (!numbers.every(([name, amount]) => isColumn(name) && isPrice(amount))) return null;
  const price = Object.fromEntries(numbers) as Partial<Price>;
  return price.input === undefined || price.output === undefined ? null : (price as Price);
}
