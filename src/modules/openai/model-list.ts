import { type Static, Type } from "@sinclair/typebox";
import { Named, Nullable, OneOf } from "../../lib/schema.ts";

const TokenPrice = Type.String({ description: "US dollars per token." });
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
      Type.Integer({
        description: "The model's context window: maximum tokens of prompt and answer together; null if unknown.",
      }),
    ),
    max_completion_tokens: Nullable(
      Type.Integer({ description: "Maximum length of an answer in tokens; null if unknown." }),
    ),
    architecture: Type.Object({
      modality: Type.String(),
      input_modalities: Type.Array(Type.String(), {
        description: "The kinds of input that this server sends to the model: text.",
      }),
      output_modalities: Type.Array(Type.String()),
    }),
    pricing: Nullable(ModelPrice, { description: "The prices that this server charges; null if unknown." }),
    supported_parameters: Type.Array(Type.String(), {
      description: "Request fields that affect the model's answers. An unknown model may reject some of them.",
    }),
  }),
);
export type OpenAiModel = Static<typeof OpenAiModel>;

export const OpenAiModelList = Named(
  "OpenAiModelList",
  Type.Object({ object: OneOf(["list"]), data: Type.Array(OpenAiModel) }),
);
export type OpenAiModelList = Static<typeof OpenAiModelList>;
