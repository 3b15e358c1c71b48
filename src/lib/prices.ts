/** US dollars per million tokens. */
export type Price = { input: number; output: number };

export type PriceTable = Readonly<Record<string, Price>>;

const price = (input: number, output: number): Price => ({ input, output });

const dateSuffix = /-(?:\d{8}|\d{4}-\d{2}-\d{2}|latest)$/;

/**
 * What a model's tokens cost; undefined when that is not known. A dated name (`gpt-4o-2024-08-06`,
 * `claude-haiku-4-5-20251001`) has the price of the model.
 */
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
