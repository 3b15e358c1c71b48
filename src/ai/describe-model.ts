import { findPrice, type Price } from "../lib/prices.ts";
import { extraFields, hasField } from "./extra-fields.ts";
import { isOpenAiThinker } from "./model-traits.ts";
import type { Catalog } from "./models.ts";
import type { Api } from "./wire-format.ts";

const listedAbilities = ["tools", "thinking", "json_object", "json_schema"] as const;

/** What is known about a model, for clients that choose one. */
export type ModelDetails = {
  /** Tokens of prompt and answer together; null: unknown. */
  contextTokens: number | null;
  /** Maximum answer length in tokens; null: unknown. */
  answerTokensMax: number | null;
  /** An unknown model may have all of them. */
  abilities: readonly (typeof listedAbilities)[number][];
  /** The Chat Completions fields that affect its answers. */
  parameters: readonly string[];
  /** Null: unknown. */
  price: Price | null;
};

/**
 * Describes a model (`provider/name`).
 * @param api absent: the offline model, which no field affects.
 */
export function describeModel(model: string, api: Api | undefined, catalog: Catalog): ModelDetails {
  const { windowTokens, answerTokens } = catalog.limitsOf(model);
  const abilities = listedAbilities.filter((ability) => catalog.can(model, ability));
  return {
    contextTokens: windowTokens,
    answerTokensMax: answerTokens,
    abilities,
    parameters: api === undefined ? [] : listParameters(model, api, abilities),
    price: findPrice(model, catalog.prices) ?? null,
  };
}

const parametersOf = {
  tools: ["tools", "tool_choice", "parallel_tool_calls"],
  thinking: ["reasoning_effort"],
  json_object: ["response_format"],
  json_schema: ["structured_outputs"],
} as const satisfies Record<ModelDetails["abilities"][number], readonly string[]>;

const listParameters = (model: string, api: Api, abilities: ModelDetails["abilities"]): string[] => [
  "max_tokens",
  "max_completion_tokens",
  "stop",
  ...(isOpenAiThinker(model) ? [] : ["temperature", "top_p"]),
  ...abilities.flatMap((ability) => parametersOf[ability]),
  ...extraFields.filter((field) => hasField(api, field)),
];
