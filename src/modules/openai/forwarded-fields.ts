import { type TSchema, Type } from "@sinclair/typebox";
import type { ExtraField } from "../../ai/extra-fields.ts";
import { Closed, OneOf } from "../../lib/schema.ts";

const PENALTY_MAX = 2;
const BIAS_MAX = 100;
/** Maximum number of entries in `logit_bias`. */
const LOGIT_BIASES_MAX = 1_024;
const TOP_K_MAX = 1_000_000;
const LABEL_CHARS_MAX = 512;
const TEMPLATE_FIELDS_MAX = 32;
const OUTPUT_TOKENS_MAX = 10_000_000;
const VALUE_CHARS_MAX = 200;

export const OutputTokens = Type.Integer({ minimum: 1, maximum: OUTPUT_TOKENS_MAX });

const Penalty = Type.Optional(Type.Number({ minimum: -PENALTY_MAX, maximum: PENALTY_MAX }));
const Fraction = Type.Optional(Type.Number({ minimum: 0, maximum: 1 }));
/** A label that a provider uses for caching or abuse detection. */
const Label = Type.Optional(Type.String({ minLength: 1, maxLength: LABEL_CHARS_MAX }));

/** Fields that are forwarded to the provider unchanged (ai/extra-fields.ts). */
export const forwardedFields = {
  seed: Type.Optional(Type.Integer()),
  frequency_penalty: Penalty,
  presence_penalty: Penalty,
  logit_bias: Type.Optional(
    Type.Record(Type.String({ pattern: "^[0-9]{1,9}$" }), Type.Number({ minimum: -BIAS_MAX, maximum: BIAS_MAX }), {
      maxProperties: LOGIT_BIASES_MAX,
      additionalProperties: false,
    }),
  ),
  verbosity: Type.Optional(OneOf(["low", "medium", "high"])),
  top_k: Type.Optional(Type.Integer({ minimum: -1, maximum: TOP_K_MAX })),
  top_a: Fraction,
  min_p: Fraction,
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
    // Clients must not choose a template, or change how messages are tokenized.
    Type.Record(
      Type.String({ pattern: "^(?!chat_template$|tokenize$|add_generation_prompt$)[a-z_]{1,64}$" }),
      Type.Union([Type.Boolean(), Type.Number(), Type.String({ maxLength: VALUE_CHARS_MAX })]),
      { maxProperties: TEMPLATE_FIELDS_MAX, additionalProperties: false },
    ),
  ),
  reasoning: Type.Optional(
    Closed({
      effort: Type.Optional(Type.String({ maxLength: VALUE_CHARS_MAX })),
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
