import { type ExtraField, extraFields } from "../../ai/extra-fields.ts";
import { type FieldRules, harmless, isEmptyObject, mapped, passed, refused } from "./field-rules.ts";
import { messageFields } from "./message-fields.ts";

const functionFields: FieldRules = {
  name: mapped(),
  description: mapped(),
  parameters: mapped(),
  strict: mapped(),
};

const toolFields: FieldRules = {
  type: mapped("Only `function`; others are refused."),
  function: mapped("", { inner: () => functionFields }),
  cache_control: harmless("Parley marks what Anthropic's cache can keep."),
};

const namedFields: FieldRules = { type: mapped(), function: mapped("", { inner: () => ({ name: mapped() }) }) };

const toolChoiceFields: FieldRules = {
  ...namedFields,
  allowed_tools: mapped("Only these tools are offered to the model.", {
    inner: () => ({ mode: mapped(), tools: mapped("", { inner: () => namedFields }) }),
  }),
};

const formatFields: FieldRules = {
  type: mapped("`text`, `json_object` or `json_schema`."),
  json_schema: mapped("", {
    inner: () => ({ name: mapped(), description: mapped(), schema: mapped(), strict: mapped() }),
  }),
};

const streamFields: FieldRules = {
  include_usage: mapped(),
  include_obfuscation: harmless("Chunks are never padded."),
};

const operatorChooses = "This server's settings decide which models and providers are asked.";

const leftOut = "A hint: left out where the provider doesn't have it.";

const passedNotes: Readonly<Record<ExtraField, string>> = {
  seed: leftOut,
  frequency_penalty: "",
  presence_penalty: "",
  logit_bias: "",
  verbosity: "",
  top_k: "",
  top_a: "",
  min_p: "",
  repetition_penalty: "",
  thinking: "As DeepSeek, GLM and Kimi know it. `reasoning_effort` works with all providers.",
  enable_thinking: "As Qwen's servers know it.",
  chat_template_kwargs: "As vLLM, SGLang and llama.cpp know it: texts, numbers and booleans.",
  reasoning: "As OpenRouter knows it. `reasoning_effort` works with all providers.",
  include_reasoning: "As OpenRouter knows it.",
  user: leftOut,
  safety_identifier: leftOut,
  prompt_cache_key: leftOut,
};

/** What is the same as to say nothing: many clients send it always. */
const neutralNumbers: Partial<Record<ExtraField, number>> = {
  frequency_penalty: 0,
  presence_penalty: 0,
  repetition_penalty: 1,
  min_p: 0,
  top_a: 0,
};

const passedFields: FieldRules = Object.fromEntries(
  extraFields.map((field) => {
    const isNeutral = (value: unknown) => value === neutralNumbers[field] || isEmptyObject(value);
    return [field, passed(passedNotes[field], { isNeutral })];
  }),
);

/** Every field of a request that is known here. Any other one is refused as unknown. */
export const requestFields: FieldRules = {
  model: mapped(),
  messages: mapped("Text only.", { inner: messageFields }),
  stream: mapped(),
  stream_options: mapped("", { inner: () => streamFields }),
  max_completion_tokens: mapped("At most as many as the model can write."),
  max_tokens: mapped("The same; `max_completion_tokens` counts if both are there."),
  temperature: mapped("Models that think and refuse it are asked without it. Claude takes 1 at most."),
  top_p: mapped("Models that refuse it, or refuse it beside `temperature`, are asked without it."),
  stop: mapped("Works with every model: Parley ends the response itself where the provider can't."),
  tools: mapped("", { inner: () => toolFields }),
  tool_choice: mapped("", { inner: () => toolChoiceFields }),
  parallel_tool_calls: mapped(),
  reasoning_effort: mapped(),
  response_format: mapped("Checked here too; see [structured output](models.md#structured-output).", {
    inner: () => formatFields,
  }),
  metadata: mapped("`conversation_id` stores the exchange in that conversation. Other keys are not kept."),
  ...passedFields,
  prompt_cache_retention: harmless("How long a provider caches is left to it."),
  prompt_cache_options: harmless("How long a provider caches is left to it."),
  cache_control: harmless("Parley marks what Anthropic's cache can keep."),
  n: refused("A request gets one response; `n` can only be 1.", 1),
  service_tier: refused(
    "The tier, and so the price, is that of this server's account; only `auto` and `default` are accepted.",
    "auto",
    "default",
  ),
  store: refused("Responses are not stored at a provider. `metadata.conversation_id` stores them here."),
  modalities: {
    ...refused("Responses are text only."),
    hasValues: true,
    isNeutral: (value) => Array.isArray(value) && value.every((entry) => entry === "text"),
  },
  logprobs: refused("Probabilities of tokens are not available here: several models may write one response."),
  top_logprobs: refused("Probabilities of tokens are not available here.", 0),
  audio: refused("Responses are text only."),
  prediction: refused("Predicted outputs are not available here."),
  web_search_options: refused("The search of a provider is not available here."),
  moderation: refused("The moderation of a provider is not available here."),
  functions: refused("Use `tools`, which replaced it."),
  function_call: refused("Use `tool_choice`, which replaced it; only `none` and `auto` are accepted.", "none", "auto"),
  models: refused(operatorChooses),
  provider: refused(operatorChooses),
  route: refused(operatorChooses),
  plugins: refused(operatorChooses),
  transforms: refused("Messages are sent as they are."),
  extra_body: refused("Put its fields beside `model`: the Python SDK does so with its parameter `extra_body`."),
};
