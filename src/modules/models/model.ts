import { type Static, Type } from "@sinclair/typebox";
import { Named, Nullable, OneOf, Timestamp } from "../../lib/schema.ts";

/** A configured model and its state. */
export const Model = Named(
  "Model",
  Type.Object({
    id: Type.String({ description: "`provider/name`, as in the field `model` of requests." }),
    provider: Type.String(),
    state: OneOf(["available", "cooling_down"]),
    until: Nullable(Timestamp({ description: "The time at which a model that is cooling down is tried again." })),
    is_default: Type.Boolean(),
    context_tokens: Nullable(
      Type.Integer({
        description: "The model's context window: maximum tokens of prompt and answer together; null if unknown.",
      }),
    ),
    answer_tokens_max: Nullable(
      Type.Integer({ description: "Maximum length of an answer in tokens; null if unknown." }),
    ),
    abilities: Type.Array(OneOf(["tools", "thinking", "json_object", "json_schema"]), {
      description: "The model's capabilities. An unknown model is assumed to have all of them.",
    }),
  }),
);
export type Model = Static<typeof Model>;
