import { findPrice, type Price } from "../lib/prices.ts";
import { extraFields, hasField } from "./extra-fields.ts";
import { isOpenAiThinker } from "./model-traits.ts";
import type { Catalogue } from "./models.ts";
import type { Api } from "./wire-format.ts";

const listedAbilities = ["tools", "thinking", "json_object", "json_schema"] as const;

/** What is known of a model, for clients that choose one. */
export type ModelDetails = {
  /** Tokens of prompt and answer together; null: not known. */
  contextTokens: number | null;
  /** Tokens of its longest answer; null: not known. */
  answerTokensMax: number | null;
  /** A model of which nothing is known may have all of them. */
  abilities: readonly (typeof listedAbilities)[number][];
  /** The fields of Chat Completions that change its answers. */
  parameters: readonly string[];
  /** Null: not known. */
  price: Price | null;
};

/**
 * Describes a model (`provider/name`).
 * @param api absent: it is none that generates a text, so that nothing changes what it says.
 */
export function describeModel(model: string, api: Api | undefined, catalogue: Catalogue): ModelDetails {
  const { windowTokens, answerTokens } = catalogue.limitsOf(model);
  const abilities = listedAbilities.filter((ability) => catalogue.can(model, ability));
  return {
    contextTokens: windowTokens,
    answerTokensMax: answerTokens,
    abilities,
    parameters: api === undefined ? [] : listParameters(model, api, abilities),
    price: findPrice(model, catalogue.prices) ?? null,
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
