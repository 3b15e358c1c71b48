import { type Static, Type } from "@sinclair/typebox";
import { Named, Nullable, OneOf } from "../../lib/schema.ts";

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
