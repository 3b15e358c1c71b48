import { findPrice, type PriceTable } from "../lib/prices.ts";

/**
 * The model for what nobody waits for: the cheapest of those whose price is known, else the last of the chain. Null when
 * only offline models are configured, which can write nothing of their own.
 */
export function findCheapestModel(models: readonly string[], prices: PriceTable): string | null {
  const writers = models.filter((model) => !model.startsWith("offline/"));
  const known = writers
    .map((model) => ({ model, price: findPrice(model, prices) }))
    .flatMap(({ model, price }) => (price ? [{ model, total: price.input + price.output }] : []))
    .sort((one, other) => one.total - other.total);
  return known[0]?.model ?? writers.at(-1) ?? null;
}
