import { PRICES_VERIFIED_MONTH, priceSources, pricesByModel } from "../src/ai/price-list.ts";
import type { Price } from "../src/lib/prices.ts";
import { replaceMarkedSection } from "./marked-section.ts";

/** Inserts the list of prices between its markers. @throws if the markers are missing. */
export const insertPriceTable = (markdown: string): string =>
  replaceMarkedSection(markdown, "prices", createPriceTable());

function createPriceTable(): string {
  const sources = priceSources.map(({ provider, url }) => `[${provider}](${url})`).join(" and ");
  const rows = priceSources.flatMap(({ prefix }) =>
    Object.entries(pricesByModel)
      .filter(([model]) => model.startsWith(prefix))
      .map(([model, price]) => formatRow(model, price)),
  );
  return [
    `Checked in ${PRICES_VERIFIED_MONTH} against the pricing pages of ${sources}. US dollars per million tokens:`,
    "",
    "| model | input | cached input | cache write | output | long prompts |",
    "| --- | --- | --- | --- | --- | --- |",
    ...rows,
  ].join("\n");
}

function formatRow(model: string, { input, output, cached_input, cache_write, long_prompt: long }: Price): string {
  const longPrompts = long
    ? `above ${long.above_tokens.toLocaleString("en")} tokens: input × ${long.input_factor}, output × ${long.output_factor}`
    : "";
  return `| \`${model}\` | ${input} | ${cached_input ?? input} | ${cache_write ?? input} | ${output} | ${longPrompts} |`;
}
