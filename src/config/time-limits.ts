import { Type } from "@sinclair/typebox";
import { idleTimeoutSetting } from "./provider-settings.ts";

const MS_MIN = 100;
const DAY_MS = 86_400_000;

/** Timeouts of models and answers. src/ai/timeouts.ts looks them up by name. */
export const timeLimitSettings = {
  AI_FIRST_TOKEN_TIMEOUT_MS: idleTimeoutSetting(
    "A model fails if it sends nothing for this long before its first token. If unset, the timeout is 30 seconds for models known to " +
      "answer without reasoning, and 5 minutes for all others.",
  ),
  AI_IDLE_TIMEOUT_MS: idleTimeoutSetting(
    "A model fails if it sends nothing for this long after its first token. If unset, the defaults are the same as those of " +
      "`AI_FIRST_TOKEN_TIMEOUT_MS`.",
  ),
  AI_ANSWER_TIMEOUT_MS: Type.Integer({
    // Reasoning models take up to 15 minutes for a long answer. If one takes twice as long, it is stuck.
    default: 1_800_000,
    minimum: MS_MIN,
    maximum: DAY_MS,
    description:
      "Timeout of an answer, including all attempts, pauses and tool calls. When it expires, the answer fails, but its text is " +
      "kept, and no other model is tried.",
  }),
};
