import { type Static, Type } from "@sinclair/typebox";
import { Closed, Line, Named } from "../../lib/schema.ts";
import { MODEL_CHARS_MAX } from "../../protocol/frames.ts";

export const RegenerateMessage = Named(
  "RegenerateMessage",
  Closed({ model: Type.Optional(Line({ minLength: 1, maxLength: MODEL_CHARS_MAX })) }),
);
export type RegenerateMessage = Static<typeof RegenerateMessage>;
