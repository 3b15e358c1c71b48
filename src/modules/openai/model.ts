import { type Static, type StringOptions, type TSchema, Type } from "@sinclair/typebox";
import type { ExtraField } from "../../ai/extra-fields.ts";
import { FORMAT_DESCRIPTION_CHARS_MAX, FORMAT_NAME_CHARS_MAX } from "../../ai/format/check-format.ts";
import { TOOL_NAME_CHARS_MAX } from "../../ai/provider.ts";
import { BODY_BYTES_MAX } from "../../http/body.ts";
import { Closed, Named, Nullable, OneOf } from "../../lib/schema.ts";
import { MODEL_CHARS_MAX } from "../../protocol/frames.ts";
import { ReasoningEffort } from "../../protocol/reasoning-effort.ts";
import type { FieldRule } from "./field-rules.ts";
import { requestFields } from "./request-fields.ts";

/** Messages of one request. */
const MESSAGES_MAX = 2_048;
/** Functions that one request may offer to the model; more than the providers take. */
const TOOLS_MAX = 128;
const STOPS_MAX = 4;
/** Parts of one message. */
export const PARTS_MAX = 2_048;
const NAME_CHARS_MAX = 200;
const STOP_CHARS_MAX = 1_000;
const TEMPERATURE_MAX = 2;
const OUTPUT_TOKENS_MAX = 10_000_000;
const PENALTY_MAX = 2;
const BIAS_MAX = 100;
/** Tokens that one request may make more or less likely. */
const BIASES_MAX = 1_024;
const TOP_K_MAX = 1_000_000;
const LABEL_CHARS_MAX = 512;
const TEMPLATE_FIELDS_MAX = 32;

/** Fields that nobody knows are refused before (prepare-completion.ts), so this says nothing of them. */
const Open = <T extends Record<string, TSchema>>(properties: T) =>
  Type.Object(properties, { additionalProperties: true });

/** Text for a model, passed on as it is: the body's own limit is its only one. */
const Passed = (options: StringOptions = {}) => Type.String({ maxLength: BODY_BYTES_MAX, ...options });
const Name = Type.String({ maxLength: NAME_CHARS_MAX });
const ToolName = Type.String({ pattern: `^[a-zA-Z0-9_-]{1,${TOOL_NAME_CHARS_MAX}}$` });

const returned = {
  description: "As it came with the message. It is passed on to the model that gave it, and is left out for others.",
};

export const CompletionMessage = Open({
  role: OneOf(["system", "developer", "user", "assistant", "tool"]),
  content: Type.Optional(
    Type.Union([
      Passed(),
      Type.Array(Open({ type: Name, text: Type.Optional(Passed()), refusal: Type.Optional(Passed()) }), {
        maxItems: PARTS_MAX,
        description: "Parts of the type `text`; an assistant's message may have some of the type `refusal`.",
      }),
    ]),
  ),
  refusal: Type.Optional(Passed({ description: "Of an assistant's message: models get it as its text." })),
  tool_calls: Type.Optional(
    Type.Array(
      Open({
        id: Passed({ minLength: 1 }),
        type: OneOf(["function"]),
        function: Open({ name: ToolName, arguments: Passed() }),
        extra_content: Type.Optional(Type.Unknown(returned)),
      }),
      { maxItems: TOOLS_MAX },
    ),
  ),
  tool_call_id: Type.Optional(Passed()),
  name: Type.Optional(Type.String({ maxLength: NAME_CHARS_MAX, description: "Who speaks, of a user's message." })),
  reasoning_content: Type.Optional(
    Type.Unknown({ description: "Not passed on: what a model has thought is in `reasoning_details`." }),
  ),
  reasoning_details: Type.Optional(Type.Unknown(returned)),
});
export type CompletionMessage = Static<typeof CompletionMessage>;

const CompletionTool = Open({
  type: OneOf(["function"]),
  function: Open({
    name: ToolName,
    description: Type.Optional(Passed()),
    parameters: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
    strict: Type.Optional(Type.Boolean()),
  }),
});

const NamedTool = Open({ type: OneOf(["function"]), function: Open({ name: Name }) });
const OutputTokens = Type.Integer({ minimum: 1, maximum: OUTPUT_TOKENS_MAX });
const Stop = Type.String({ minLength: 1, maxLength: STOP_CHARS_MAX });

const ResponseFormat = Open({
  type: OneOf(["text", "json_object", "json_schema"]),
  json_schema: Type.Optional(
    Open({
      name: Type.String({ pattern: `^[a-zA-Z0-9_-]{1,${FORMAT_NAME_CHARS_MAX}}$` }),
      description: Type.Optional(Type.String({ maxLength: FORMAT_DESCRIPTION_CHARS_MAX })),
      schema: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
      strict: Type.Optional(Type.Boolean()),
    }),
  ),
});

const AllowedTools = Open({
  type: OneOf(["allowed_tools"]),
  allowed_tools: Open({ mode: OneOf(["auto", "required"]), tools: Type.Array(NamedTool, { maxItems: TOOLS_MAX }) }),
});

const Penalty = Type.Optional(Type.Number({ minimum: -PENALTY_MAX, maximum: PENALTY_MAX }));
const Share = Type.Optional(Type.Number({ minimum: 0, maximum: 1 }));
/** What a provider is told for its caches and its protection against abuse. */
const Label = Type.Optional(Type.String({ minLength: 1, maxLength: LABEL_CHARS_MAX }));

/** What is passed on to the model's provider as it is (ai/extra-fields.ts). */
const passedFields = {
  seed: Type.Optional(Type.Integer()),
  frequency_penalty: Penalty,
  presence_penalty: Penalty,
  logit_bias: Type.Optional(
    Type.Record(Type.String({ pattern: "^[0-9]{1,9}$" }), Type.Number({ minimum: -BIAS_MAX, maximum: BIAS_MAX }), {
      maxProperties: BIASES_MAX,
      additionalProperties: false,
    }),
  ),
  verbosity: Type.Optional(OneOf(["low", "medium", "high"])),
  top_k: Type.Optional(Type.Integer({ minimum: -1, maximum: TOP_K_MAX })),
  top_a: Share,
  min_p: Share,
  repetition_penalty: Type.Optional(Type.Number({ minimum: 0, maximum: PENALTY_MAX })),
  thinking: Type.Optional(
    Closed({
      type: OneOf(["enabled", "disabled", "adaptive", "auto"]),
      budget_tokens: Type.Optional(OutputTokens),
      clear_thinking: Type.Optional(Type.Boolean()),
    }),
  ),
  enable_thinking: Type.Optional(Type.Boolean()),
  chat_template_kwargs: Type.Optional(
    // A template of one's own, or another way to read the messages, is nothing that a client may choose.
    Type.Record(
      Type.String({ pattern: "^(?!chat_template$|tokenize$|add_generation_prompt$)[a-z_]{1,64}$" }),
      Type.Union([Type.Boolean(), Type.Number(), Type.String({ maxLength: NAME_CHARS_MAX })]),
      { maxProperties: TEMPLATE_FIELDS_MAX, additionalProperties: false },
    ),
  ),
  reasoning: Type.Optional(
    Closed({
      effort: Type.Optional(Type.String({ maxLength: NAME_CHARS_MAX })),
      max_tokens: Type.Optional(OutputTokens),
      exclude: Type.Optional(Type.Boolean()),
      enabled: Type.Optional(Type.Boolean()),
    }),
  ),
  include_reasoning: Type.Optional(Type.Boolean()),
  user: Label,
  safety_identifier: Label,
  prompt_cache_key: Label,
} satisfies Record<ExtraField, TSchema>;

/** What is understood of OpenAI's request, or passed on. */
const UnderstoodCompletion = Open({
  model: Type.String({ minLength: 1, maxLength: MODEL_CHARS_MAX, description: "One of `GET /v1/models`." }),
  messages: Type.Array(CompletionMessage, { minItems: 1, maxItems: MESSAGES_MAX }),
  stream: Type.Optional(Type.Boolean()),
  stream_options: Type.Optional(Open({ include_usage: Type.Optional(Type.Boolean()) })),
  max_tokens: Type.Optional(OutputTokens),
  max_completion_tokens: Type.Optional(OutputTokens),
  temperature: Type.Optional(Type.Number({ minimum: 0, maximum: TEMPERATURE_MAX })),
  top_p: Type.Optional(Type.Number({ minimum: 0, maximum: 1 })),
  stop: Type.Optional(Type.Union([Stop, Type.Array(Stop, { maxItems: STOPS_MAX })])),
  response_format: Type.Optional(ResponseFormat),
  tools: Type.Optional(Type.Array(CompletionTool, { maxItems: TOOLS_MAX })),
  tool_choice: Type.Optional(Type.Union([OneOf(["none", "auto", "required"]), NamedTool, AllowedTools])),
  parallel_tool_calls: Type.Optional(Type.Boolean()),
  reasoning_effort: Type.Optional(ReasoningEffort),
  metadata: Type.Optional(
    Type.Record(Type.String(), Type.Unknown(), {
      description: "`conversation_id` stores the exchange in that conversation.",
    }),
  ),
  ...passedFields,
});
export type CreateCompletion = Static<typeof UnderstoodCompletion>;

/** All fields that are known, by what becomes of them: for the document, the schema has the refused and harmless ones too. */
export const CreateCompletion: typeof UnderstoodCompletion = {
  ...UnderstoodCompletion,
  properties: { ...describeOthers(UnderstoodCompletion.properties), ...UnderstoodCompletion.properties },
};

function describeOthers(understood: object): Record<string, TSchema> {
  const others = Object.entries(requestFields).filter(([name]) => !(name in understood));
  const describe = ({ treatment, note }: FieldRule) =>
    treatment === "refused" ? `Refused, unless it is empty. ${note}` : `Has no effect. ${note}`;
  return Object.fromEntries(
    others.map(([name, rule]) => [name, Type.Optional(Type.Unknown({ description: describe(rule) }))]),
  );
}

const toReturn =
  "What the model has thought. Return it unchanged with the message, so that the model goes on from there.";

const ToolCalls = Type.Array(
  Type.Object({
    id: Type.String(),
    type: OneOf(["function"]),
    function: Type.Object({ name: Type.String(), arguments: Type.String() }),
    extra_content: Type.Optional(
      Type.Object({ google: Type.Object({ thought_signature: Type.String() }) }, { description: toReturn }),
    ),
  }),
);

const ReasoningDetails = Type.Array(
  Type.Object(
    {
      type: OneOf(["reasoning.text", "reasoning.summary", "reasoning.encrypted"]),
      id: Nullable(Type.String()),
      format: Type.String(),
      index: Type.Integer(),
    },
    { additionalProperties: true },
  ),
  { description: toReturn },
);

const CompletionUsage = Type.Object({
  prompt_tokens: Type.Integer(),
  completion_tokens: Type.Integer(),
  total_tokens: Type.Integer(),
  prompt_tokens_details: Type.Object({
    cached_tokens: Type.Integer({ description: "The part of `prompt_tokens` that came from a provider's cache." }),
    cache_write_tokens: Type.Integer({ description: "The part of `prompt_tokens` that was written to one." }),
    audio_tokens: Type.Integer({ description: "Always 0." }),
  }),
  completion_tokens_details: Type.Object({
    reasoning_tokens: Type.Integer({ description: "The part of `completion_tokens` that was reasoning." }),
    audio_tokens: Type.Integer({ description: "Always 0." }),
    accepted_prediction_tokens: Type.Integer({ description: "Always 0." }),
    rejected_prediction_tokens: Type.Integer({ description: "Always 0." }),
  }),
});
export type CompletionUsage = Static<typeof CompletionUsage>;

export const Completion = Named(
  "Completion",
  Type.Object({
    id: Type.String(),
    object: OneOf(["chat.completion"]),
    created: Type.Integer({ description: "Seconds since 1970." }),
    model: Type.String({ description: "The model that wrote the end of the answer." }),
    choices: Type.Array(
      Type.Object({
        index: Type.Integer(),
        message: Type.Object({
          role: OneOf(["assistant"]),
          content: Nullable(Type.String()),
          refusal: Type.Null(),
          tool_calls: Type.Optional(ToolCalls),
          reasoning_details: Type.Optional(ReasoningDetails),
        }),
        logprobs: Type.Null(),
        finish_reason: OneOf(["stop", "length", "tool_calls", "content_filter"]),
      }),
    ),
    usage: CompletionUsage,
  }),
);
export type Completion = Static<typeof Completion>;

const TokenPrice = Type.String({ description: "US dollars for one token." });
const ModelPrice = Type.Object({
  prompt: TokenPrice,
  completion: TokenPrice,
  input_cache_read: Type.Optional(TokenPrice),
  input_cache_write: Type.Optional(TokenPrice),
});

export const OpenAiModel = Named(
  "OpenAiModel",
  Type.Object({
    id: Type.String({ description: "`provider/name`" }),
    object: OneOf(["model"]),
    created: Type.Integer(),
    owned_by: Type.String({ description: "The provider." }),
    context_length: Nullable(
      Type.Integer({ description: "Tokens of prompt and answer together, of the model itself; null if unknown." }),
    ),
    max_completion_tokens: Nullable(Type.Integer({ description: "Tokens of its longest answer; null if unknown." })),
    architecture: Type.Object({
      modality: Type.String(),
      input_modalities: Type.Array(Type.String(), { description: "What this server passes on to the model: text." }),
      output_modalities: Type.Array(Type.String()),
    }),
    pricing: Nullable(ModelPrice, { description: "What this server counts; null if no price is known." }),
    supported_parameters: Type.Array(Type.String(), {
      description: "Fields of a request that change its answers. If nothing is known of a model, they may be refused.",
    }),
  }),
);
export type OpenAiModel = Static<typeof OpenAiModel>;

export const OpenAiModelList = Named(
  "OpenAiModelList",
  Type.Object({ object: OneOf(["list"]), data: Type.Array(OpenAiModel) }),
);
export type OpenAiModelList = Static<typeof OpenAiModelList>;
