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
  }),
);
export type Model = Static<typeof Model>;
