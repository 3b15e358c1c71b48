import { findPrice, type Price } from "../lib/prices.ts";
import { extraFields, hasField } from "./extra-fields.ts";
import { isOpenAiReasoningModel } from "./model-traits.ts";
import type { Catalog } from "./models.ts";
import type { Api } from "./wire-format.ts";

const listedCapabilities = ["tools", "thinking", "json_object", "json_schema"] as const;

/** The details that help a client choose a model. */
export type ModelDetails = {
  /** Maximum tokens of the prompt and the answer together, or null if unknown. */
  contextTokens: number | null;
  /** Maximum answer length in tokens, or null if unknown. */
  answerTokensMax: number | null;
  /** An unknown model is assumed to have all capabilities. */
  capabilities: readonly (typeof listedCapabilities)[number][];
  /** The Chat Completions fields that affect the model's answers. */
  parameters: readonly string[];
  /** Null if unknown. */
  price: Price | null;
};

/**
 * Returns the details of a model (`provider/name`).
 * @param api undefined for the offline model, which ignores all parameters.
 */
export function describeModel(model: string, api: Api | undefined, catalog: Catalog): ModelDetails {
  const { windowTokens, answerTokens } = catalog.getLimits(model);
  const capabilities = listedCapabilities.filter((capability) => catalog.hasCapability(model, capability));
  return {
    contextTokens: windowTokens,
    answerTokensMax: answerTokens,
    capabilities,
    parameters: api === undefined ? [] : listParameters(model, api, capabilities),
    price: findPrice(model, catalog.prices) ?? null,
  };
}

const capabilityParameters = {
  tools: ["tools", "tool_choice", "parallel_tool_calls"],
  thinking: ["reasoning_effort"],
  json_object: ["response_format"],
  json_schema: ["structured_outputs"],
} as const satisfies Record<ModelDetails["capabilities"][number], readonly string[]>;

const listParameters = (model: string, api: Api, capabilities: ModelDetails["capabilities"]): string[] => [
  "max_tokens",
  "max_completion_tokens",
  "stop",
  ...(isOpenAiReasoningModel(model) ? [] : ["temperature", "top_p"]),
  ...capabilities.flatMap((capability) => capabilityParameters[capability]),
  ...extraFields.filter((field) => hasField(api, field)),
];
