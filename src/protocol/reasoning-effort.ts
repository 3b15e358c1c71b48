import type { Static } from "@sinclair/typebox";
import { OneOf } from "../lib/schema.ts";

export const ReasoningEffort = OneOf(["none", "minimal", "low", "medium", "high", "xhigh"], {
  description: "How much a model thinks before it responds. It is mapped to what the model's provider understands.",
});
export type ReasoningEffort = Static<typeof ReasoningEffort>;
