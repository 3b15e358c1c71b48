import { Type } from "@sinclair/typebox";
import { silenceTimeout } from "./provider-settings.ts";

const MS_MIN = 100;
const DAY_MS = 86_400_000;

/** Timeouts of models and their answers. src/ai/timeouts.ts looks them up by name. */
export const timeLimitSettings = {
  AI_FIRST_TOKEN_TIMEOUT_MS: silenceTimeout(
    "A model that sends no byte for this long before its first token has failed. Absent: 30 seconds for models known not to " +
      "reason before they respond, 5 minutes for all others.",
  ),
  AI_IDLE_TIMEOUT_MS: silenceTimeout(
    "A model that sends no byte for this long after its first token has failed. Absent: as above.",
  ),
  AI_ANSWER_TIMEOUT_MS: Type.Integer({
    // Long answers of reasoning models take up to 15 minutes; one that takes twice as long is stuck.
    default: 1_800_000,
    minimum: MS_MIN,
    maximum: DAY_MS,
    description:
      "Timeout of a whole answer, including all attempts, pauses and tool calls. When it expires, the answer fails and keeps its " +
      "text; no other model is tried.",
  }),
};
