import { type Static, Type } from "@sinclair/typebox";
import { Closed, Line, Nullable, OneOf, Timestamp } from "../../lib/schema.ts";
import { MODEL_CHARS_MAX } from "../../protocol/frames.ts";

export const RegenerateMessage = Closed({ model: Type.Optional(Line({ minLength: 1, maxLength: MODEL_CHARS_MAX })) });
export type RegenerateMessage = Static<typeof RegenerateMessage>;

export const Model = Type.Object({
  id: Type.String({ description: "`provider/name`, as `model` is given in requests." }),
  provider: Type.String(),
  state: OneOf(["available", "cooling_down"]),
  until: Nullable(Timestamp({ description: "When a model that cools down is asked again." })),
  is_default: Type.Boolean(),
});
export type Model = Static<typeof Model>;
