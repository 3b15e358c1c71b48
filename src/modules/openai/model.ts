import { type Static, type StringOptions, type TSchema, Type } from "@sinclair/typebox";
import { FORMAT_DESCRIPTION_CHARS_MAX, FORMAT_NAME_CHARS_MAX } from "../../ai/format/check-format.ts";
import { TOOL_NAME_CHARS_MAX } from "../../ai/provider.ts";
import { BODY_BYTES_MAX } from "../../http/body.ts";
import { OpenAiErrorBody } from "../../http/openapi.ts";
import { Named, Nullable, OneOf } from "../../lib/schema.ts";
import { MODEL_CHARS_MAX } from "../../protocol/frames.ts";
import { ReasoningEffort } from "../../protocol/reasoning-effort.ts";
import type { FieldRule } from "./field-rules.ts";
import { forwardedFields, OutputTokens } from "./forwarded-fields.ts";
import { requestFields } from "./request-fields.ts";

/** Maximum number of messages per request. */
const MESSAGES_MAX = 2_048;
/** Maximum number of functions per request; providers accept fewer. */
const TOOLS_MAX = 128;
const STOPS_MAX = 4;
/** Maximum number of parts per message. */
export const PARTS_MAX = 2_048;
const NAME_CHARS_MAX = 200;
const STOP_CHARS_MAX = 1_000;
const TEMPERATURE_MAX = 2;

/** Allows additional fields, because prepare-completion.ts has already rejected unknown ones. */
const Open = <T extends Record<string, TSchema>>(properties: T) =>
  Type.Object(properties, { additionalProperties: true });

/** Text that is sent to a model unchanged. Only the size of the request body limits it. */
const ForwardedText = (options: StringOptions = {}) => Type.String({ maxLength: BODY_BYTES_MAX, ...options });
const Name = Type.String({ maxLength: NAME_CHARS_MAX });
const ToolName = Type.String({ pattern: `^[a-zA-Z0-9_-]{1,${TOOL_NAME_CHARS_MAX}}$` });

const unchangedFieldOptions = {
  description: "Return it unchanged. It is sent only to the model that created it.",
};

export const CompletionMessage = Open({
  role: OneOf(["system", "developer", "user", "assistant", "tool"]),
  content: Type.Optional(
    Type.Union([
      ForwardedText(),
      Type.Array(Open({ type: Name, text: Type.Optional(ForwardedText()), refusal: Type.Optional(ForwardedText()) }), {
        maxItems: PARTS_MAX,
        description: "Parts of type `text`; assistant messages may also have type `refusal`.",
      }),
    ]),
  ),
  refusal: Type.Optional(ForwardedText({ description: "Assistant messages only. Models receive it as text." })),
  tool_calls: Type.Optional(
    Type.Array(
      Open({
        id: ForwardedText({ minLength: 1 }),
        type: OneOf(["function"]),
        function: Open({ name: ToolName, arguments: ForwardedText() }),
        extra_content: Type.Optional(Type.Unknown(unchangedFieldOptions)),
      }),
      { maxItems: TOOLS_MAX },
    ),
  ),
  tool_call_id: Type.Optional(ForwardedText()),
  name: Type.Optional(
    Type.String({ maxLength: NAME_CHARS_MAX, description: "User messages only: the speaker's name." }),
  ),
  reasoning_content: Type.Optional(
    Type.Unknown({ description: "Not sent to the model: reasoning is returned in `reasoning_details`." }),
  ),
  reasoning_details: Type.Optional(Type.Unknown(unchangedFieldOptions)),
});
export type CompletionMessage = Static<typeof CompletionMessage>;

const CompletionTool = Open({
  type: OneOf(["function"]),
  function: Open({
    name: ToolName,
    description: Type.Optional(ForwardedText()),
    parameters: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
    strict: Type.Optional(Type.Boolean()),
  }),
});

const NamedTool = Open({ type: OneOf(["function"]), function: Open({ name: Name }) });
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

/** The request fields that Parley interprets or forwards. */
const SupportedFields = Open({
  model: Type.String({ minLength: 1, maxLength: MODEL_CHARS_MAX, description: "A model from `GET /v1/models`." }),
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
  ...forwardedFields,
});
export type CreateCompletion = Static<typeof SupportedFields>;

/** All known fields. Includes rejected and ignored fields, for the documentation. */
export const CreateCompletion: typeof SupportedFields = {
  ...SupportedFields,
  properties: { ...describeOtherFields(SupportedFields.properties), ...SupportedFields.properties },
};

function describeOtherFields(supported: object): Record<string, TSchema> {
  const otherFields = Object.entries(requestFields).filter(([name]) => !(name in supported));
  const describeField = ({ treatment, note }: FieldRule) =>
    treatment === "rejected" ? `Rejected unless empty. ${note}` : `Has no effect. ${note}`;
  return Object.fromEntries(
    otherFields.map(([name, rule]) => [name, Type.Optional(Type.Unknown({ description: describeField(rule) }))]),
  );
}

const reasoningDescription =
  "The model's reasoning. Return it unchanged with the message, so that the model can continue from it.";

const ToolCalls = Type.Array(
  Type.Object({
    id: Type.String(),
    type: OneOf(["function"]),
    function: Type.Object({ name: Type.String(), arguments: Type.String() }),
    extra_content: Type.Optional(
      Type.Object({ google: Type.Object({ thought_signature: Type.String() }) }, { description: reasoningDescription }),
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
  { description: reasoningDescription },
);

const CompletionUsage = Type.Object({
  prompt_tokens: Type.Integer(),
  completion_tokens: Type.Integer(),
  total_tokens: Type.Integer(),
  prompt_tokens_details: Type.Object({
    cached_tokens: Type.Integer({ description: "The part of `prompt_tokens` that came from a provider's cache." }),
    cache_write_tokens: Type.Integer({
      description: "The part of `prompt_tokens` that was written to a provider's cache.",
    }),
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
    model: Type.String({ description: "The model that wrote the last part of the answer." }),
    choices: Type.Array(
      Type.Object({
        index: Type.Integer(),
        message: Type.Object({
          role: OneOf(["assistant"]),
          content: Nullable(Type.String()),
          refusal: Type.Null(),
          reasoning_content: Type.Optional(
            Type.String({
              description: "The model's reasoning, if its provider reports it and `AI_REASONING` isn't `off`.",
            }),
          ),
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

const CompletionChunk = Named(
  "CompletionChunk",
  Type.Object({
    id: Type.String({ description: "The same in all chunks." }),
    object: OneOf(["chat.completion.chunk"]),
    created: Type.Integer({ description: "Seconds since 1970; the same in all chunks." }),
    model: Type.String(),
    choices: Type.Array(
      Type.Object({
        index: Type.Integer(),
        delta: Type.Object({
          role: Type.Optional(OneOf(["assistant"])),
          content: Type.Optional(Type.String()),
          reasoning_content: Type.Optional(Type.String()),
          reasoning_details: Type.Optional(ReasoningDetails),
          tool_calls: Type.Optional(Type.Array(Type.Object({ index: Type.Integer(), ...ToolCalls.items.properties }))),
        }),
        logprobs: Type.Null(),
        finish_reason: Nullable(Completion.properties.choices.items.properties.finish_reason),
      }),
      { description: "Empty in the chunk with the usage." },
    ),
    usage: Type.Optional(
      Nullable(CompletionUsage, { description: "With `stream_options.include_usage`: null except in the last chunk." }),
    ),
  }),
);

/** The JSON of an event in a streamed completion: a chunk, or the error that ends the stream. */
export const CompletionEvent = Type.Union([CompletionChunk, OpenAiErrorBody]);
