import { type ExtraField, extraFields } from "../../ai/extra-fields.ts";
import { type FieldRules, forwarded, ignored, isEmptyObject, mapped, rejected } from "./field-rules.ts";
import { getMessageFields } from "./message-fields.ts";

const functionFields: FieldRules = {
  name: mapped(),
  description: mapped(),
  parameters: mapped(),
  strict: mapped(),
};

const toolFields: FieldRules = {
  type: mapped("Only `function`; other types are rejected."),
  function: mapped("", { getInnerRules: () => functionFields }),
  cache_control: ignored("Parley sets Anthropic's cache markers itself."),
};

const namedToolFields: FieldRules = {
  type: mapped(),
  function: mapped("", { getInnerRules: () => ({ name: mapped() }) }),
};

const toolChoiceFields: FieldRules = {
  ...namedToolFields,
  allowed_tools: mapped("Only these tools are offered to the model.", {
    getInnerRules: () => ({ mode: mapped(), tools: mapped("", { getInnerRules: () => namedToolFields }) }),
  }),
};

const formatFields: FieldRules = {
  type: mapped("`text`, `json_object` or `json_schema`."),
  json_schema: mapped("", {
    getInnerRules: () => ({ name: mapped(), description: mapped(), schema: mapped(), strict: mapped() }),
  }),
};

const streamFields: FieldRules = {
  include_usage: mapped(),
  include_obfuscation: ignored("Chunks are never padded."),
};

const operatorNote = "This server's settings decide which models and providers are used.";

const hintNote = "A hint: omitted if the provider doesn't support it.";

const forwardedNotes: Readonly<Record<ExtraField, string>> = {
  seed: hintNote,
  frequency_penalty: "",
  presence_penalty: "",
  logit_bias: "",
  verbosity: "",
  top_k: "",
  top_a: "",
  min_p: "",
  repetition_penalty: "",
  thinking: "The field of DeepSeek, GLM and Kimi. `reasoning_effort` works with all providers.",
  enable_thinking: "The field of Qwen's servers.",
  chat_template_kwargs: "The field of vLLM, SGLang and llama.cpp: strings, numbers and booleans.",
  reasoning: "OpenRouter's field. `reasoning_effort` works with all providers.",
  include_reasoning: "OpenRouter's field.",
  user: hintNote,
  safety_identifier: hintNote,
  prompt_cache_key: hintNote,
};

/** Default values that many clients always send. They have no effect. */
const neutralNumbers: Partial<Record<ExtraField, number>> = {
  frequency_penalty: 0,
  presence_penalty: 0,
  repetition_penalty: 1,
  min_p: 0,
  top_a: 0,
};

const forwardedFields: FieldRules = Object.fromEntries(
  extraFields.map((field) => {
    const isNeutral = (value: unknown) => value === neutralNumbers[field] || isEmptyObject(value);
    return [field, forwarded(forwardedNotes[field], { isNeutral })];
  }),
);

/** All known request fields. Other fields are rejected as unknown. */
export const requestFields: FieldRules = {
  model: mapped(),
  messages: mapped("Text only.", { getInnerRules: getMessageFields }),
  stream: mapped(),
  stream_options: mapped("", { getInnerRules: () => streamFields }),
  max_completion_tokens: mapped("Limited to the maximum length of the model's answers."),
  max_tokens: mapped("The older name of `max_completion_tokens`, which takes precedence if both are set."),
  temperature: mapped("Omitted for reasoning models that reject it. Claude's maximum is 1."),
  top_p: mapped("Omitted for models that reject it, or reject it together with `temperature`."),
  stop: mapped("Works with every model. If the provider doesn't support it, Parley ends the answer."),
  tools: mapped("", { getInnerRules: () => toolFields }),
  tool_choice: mapped("", { getInnerRules: () => toolChoiceFields }),
  parallel_tool_calls: mapped(),
  reasoning_effort: mapped(),
  response_format: mapped("Parley validates it too; see [structured output](models.md#structured-output).", {
    getInnerRules: () => formatFields,
  }),
  metadata: mapped("`conversation_id` stores the exchange in that conversation. Other keys are dropped."),
  ...forwardedFields,
  prompt_cache_retention: ignored("The provider decides how long it caches."),
  prompt_cache_options: ignored("The provider decides how long it caches."),
  cache_control: ignored("Parley sets Anthropic's cache markers itself."),
  n: rejected("Only 1 is supported.", 1),
  service_tier: rejected(
    "This server's account at the provider determines the tier and the price. Only `auto` and `default` are accepted.",
    "auto",
    "default",
  ),
  store: rejected("Responses are not stored at the provider. `metadata.conversation_id` stores them in Parley."),
  modalities: {
    ...rejected("Responses are text only."),
    hasAcceptedValues: true,
    isNeutral: (value) => Array.isArray(value) && value.every((entry) => entry === "text"),
  },
  logprobs: rejected("Token probabilities are not available, because several models may write one answer."),
  top_logprobs: rejected("Token probabilities are not available.", 0),
  audio: rejected("Responses are text only."),
  prediction: rejected("Predicted outputs are not available."),
  web_search_options: rejected("Provider-side search is not available."),
  moderation: rejected("Provider-side moderation is not available."),
  functions: rejected("Use `tools` instead."),
  function_call: rejected("Use `tool_choice` instead. Only `none` and `auto` are accepted.", "none", "auto"),
  models: rejected(operatorNote),
  provider: rejected(operatorNote),
  route: rejected(operatorNote),
  plugins: rejected(operatorNote),
  transforms: rejected("Messages are sent unchanged."),
  extra_body: rejected("Put its fields next to `model`, as the Python SDK does with its `extra_body` parameter."),
};
