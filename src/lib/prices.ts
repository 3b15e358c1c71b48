/** US dollars per million tokens. */
export type Price = { input: number; output: number };

export type PriceTable = Readonly<Record<string, Price>>;

const price = (input: number, output: number): Price => ({ input, output });

/**
 * List prices of well-known models, without the discounts for cached or batched tokens (checked in November 2026). A
 * dated name (`gpt-4o-2024-08-06`, `claude-haiku-4-5-20251001`) has the price of its family. What is not here has no
 * known price, and its cost is null rather than a guess.
 */
export const defaultPrices: PriceTable = {
  "openai/gpt-5.5": price(5, 30),
  "openai/gpt-5.4": price(2.5, 15),
  "openai/gpt-5.4-mini": price(0.75, 4.5),
  "openai/gpt-5.4-nano": price(0.2, 1.25),
  "openai/gpt-5.2": price(1.75, 14),
  "openai/gpt-5.2-pro": price(21, 168),
  "openai/gpt-5.1": price(1.25, 10),
  "openai/gpt-5": price(1.25, 10),
  "openai/gpt-5-pro": price(15, 120),
  "openai/gpt-5-mini": price(0.25, 2),
  "openai/gpt-5-nano": price(0.05, 0.4),
  "openai/gpt-4.1": price(2, 8),
  "openai/gpt-4.1-mini": price(0.4, 1.6),
  "openai/gpt-4.1-nano": price(0.1, 0.4),
  "openai/gpt-4o": price(2.5, 10),
  "openai/gpt-4o-mini": price(0.15, 0.6),
  "openai/o3": price(2, 8),
  "openai/o4-mini": price(1.1, 4.4),
  "anthropic/claude-fable-5-1": price(10, 50),
  "anthropic/claude-opus-5-5": price(4, 20),
  "anthropic/claude-opus-5": price(5, 25),
  "anthropic/claude-opus-4-7": price(5, 25),
  "anthropic/claude-opus-4-6": price(5, 25),
  "anthropic/claude-opus-4-5": price(5, 25),
  "anthropic/claude-opus-4-1": price(15, 75),
  "anthropic/claude-sonnet-5-5": price(2, 10),
  "anthropic/claude-sonnet-5": price(2, 10),
  "anthropic/claude-sonnet-4-6": price(3, 15),
  "anthropic/claude-sonnet-4-5": price(3, 15),
  "anthropic/claude-haiku-4-5": price(1, 5),
  "offline/documents": price(0, 0),
};

const dateSuffix = /-(?:\d{8}|\d{4}-\d{2}-\d{2}|latest)$/;

/** What a model's tokens cost; undefined when that is not known. */
export function findPrice(model: string, prices: PriceTable): Price | undefined {
  const name = [model, model.replace(dateSuffix, "")].find((candidate) => Object.hasOwn(prices, candidate));
  return name === undefined ? undefined : prices[name];
}

/** US dollars per million tokens that are taken for an honest price. */
const PRICE_MAX = 100_000;

const isPrice = (value: unknown): value is number =>
  typeof value === "number" && Number.isFinite(value) && value >= 0 && value <= PRICE_MAX;

const pair = /^([^\s=,]+\/[^\s=,]+)=(\d+(?:\.\d+)?)\/(\d+(?:\.\d+)?)$/;

/**
 * Reads prices as they are configured: `model=input/output` with commas between, or JSON
 * `{"model": {"input": 1, "output": 2}}`.
 * @returns null when the text is neither.
 */
export function parsePrices(text: string): PriceTable | null {
  const prices: Record<string, Price> = {};
  if (!text.trimStart().startsWith("{")) {
    for (const part of text.split(",").map((piece) => piece.trim())) {
      if (part === "") continue;
      const [, model = "", input, output] = pair.exec(part) ?? [];
      if (!isPrice(Number(input)) || !isPrice(Number(output))) return null;
      prices[model] = price(Number(input), Number(output));
    }
    return prices;
  }
  let parsed: Record<string, unknown>;
  try {
    parsed = JSON.parse(text) as Record<string, unknown>;
  } catch {
    return null;
  }
  for (const [model, value] of Object.entries(parsed)) {
    const { input, output } = (value ?? {}) as Partial<Record<string, unknown>>;
    if (!isPrice(input) || !isPrice(output)) return null;
    prices[model] = price(input, output);
  }
  return prices;
}

/** The built-in prices with those of the configuration before them. */
export const mergePrices = (configured: string | undefined): PriceTable => ({
  ...defaultPrices,
  ...(configured === undefined ? {} : parsePrices(configured)),
});
