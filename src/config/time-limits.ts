import { Type } from "@sinclair/typebox";
import { silence } from "./provider-settings.ts";

const MS_MIN = 100;
const DAY_MS = 86_400_000;

/** How long models may be silent, and how long an answer may take. src/ai/timeouts.ts reads them by their names. */
export const timeLimitSettings = {
  AI_FIRST_TOKEN_TIMEOUT_MS: silence(
    "A model that has sent no byte for so long, before its first token, has failed. Absent: 30 seconds for models that are " +
      "known not to think before they answer, 5 minutes for all others.",
  ),
  AI_IDLE_TIMEOUT_MS: silence(
    "A model that has sent no byte for so long, after its first token, has failed. Absent: as above.",
  ),
  AI_ANSWER_TIMEOUT_MS: Type.Integer({
    // Long answers of thinking models take up to a quarter of an hour; what takes twice as long is stuck.
    default: 1_800_000,
    minimum: MS_MIN,
    maximum: DAY_MS,
    description:
      "Longest time of a whole answer, with all attempts, pauses and tool calls. Then it fails and keeps its text; no " +
      "further model is asked.",
  }),
};
