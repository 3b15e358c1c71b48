import { Type } from "@sinclair/typebox";

const MS_MIN = 100;
const SILENCE_MS_MAX = 600_000;
const DAY_MS = 86_400_000;

const silence = (description: string) =>
  Type.Optional(Type.Integer({ minimum: MS_MIN, maximum: SILENCE_MS_MAX, description }));

const firstTokenOf = (provider: string) =>
  silence(`\`AI_FIRST_TOKEN_TIMEOUT_MS\` for the models of \`${provider}\` alone; it goes before the general one.`);
const idleOf = (provider: string) =>
  silence(`\`AI_IDLE_TIMEOUT_MS\` for the models of \`${provider}\` alone; it goes before the general one.`);

/** How long models may be silent, and how long an answer may take. src/ai/timeouts.ts reads them by their names. */
export const timeLimitSettings = {
  AI_FIRST_TOKEN_TIMEOUT_MS: silence(
    "A model that has sent no byte for so long, before its first token, has failed. Absent: 30 seconds for models that are " +
      "known not to think before they answer, 5 minutes for all others.",
  ),
  AI_IDLE_TIMEOUT_MS: silence(
    "A model that has sent no byte for so long, after its first token, has failed. Absent: as above.",
  ),
  AI_OPENAI_FIRST_TOKEN_TIMEOUT_MS: firstTokenOf("openai"),
  AI_OPENAI_IDLE_TIMEOUT_MS: idleOf("openai"),
  AI_ANTHROPIC_FIRST_TOKEN_TIMEOUT_MS: firstTokenOf("anthropic"),
  AI_ANTHROPIC_IDLE_TIMEOUT_MS: idleOf("anthropic"),
  AI_COMPATIBLE_FIRST_TOKEN_TIMEOUT_MS: firstTokenOf("compatible"),
  AI_COMPATIBLE_IDLE_TIMEOUT_MS: idleOf("compatible"),
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
