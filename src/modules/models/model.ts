import { type Static, Type } from "@sinclair/typebox";
import { Named, Nullable, OneOf, Timestamp } from "../../lib/schema.ts";

/** A configured model with its state. */
export const Model = Named(
  "Model",
  Type.Object({
    id: Type.String({ description: "`provider/name`, as `model` is given in requests." }),
    provider: Type.String(),
    state: OneOf(["available", "cooling_down"]),
    until: Nullable(Timestamp({ description: "When a model that cools down is asked again." })),
    is_default: Type.Boolean(),
    context_tokens: Nullable(
      Type.Integer({ description: "Tokens of prompt and answer together, of the model itself; null if unknown." }),
    ),
    answer_tokens_max: Nullable(Type.Integer({ description: "Tokens of its longest answer; null if unknown." })),
    abilities: Type.Array(OneOf(["tools", "thinking", "json_object", "json_schema"]), {
      description: "What it can do. A model of which nothing is known may be able to do all of it.",
    }),
  }),
);
export type Model = Static<typeof Model>;
