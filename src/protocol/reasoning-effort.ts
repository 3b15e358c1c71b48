import type { Static } from "@sinclair/typebox";
import { OneOf } from "../lib/schema.ts";

export const ReasoningEffort = OneOf(["none", "minimal", "low", "medium", "high", "xhigh"], {
  description: "How much a model thinks before it responds. Mapped to the closest setting of the model's provider.",
});
export type ReasoningEffort = Static<typeof ReasoningEffort>;
