import { toSettingName } from "../config/providers.ts";

/** How long a model may send no byte: before its first text, reasoning or tool call, and after it. Milliseconds. */
type Timeouts = { firstTokenMs: number; idleMs: number };

/** The timeouts of a model (`provider/name`). */
export type TimeoutsOf = (model: string) => Timeouts;

/** For models that are known not to think: they write at once, or not at all. */
export const SILENCE_MS = 30_000;
/**
 * For models that think, and for those that we don't know. Many send nothing while they think, and that takes minutes. An
 * attempt that is cut off too early is paid for and lost; one that is cut off late only costs time.
 */
export const THINKING_SILENCE_MS = 300_000;

/**
 * @param settings values by the names of settings: `AI_<NAME>_FIRST_TOKEN_TIMEOUT_MS` of the model's provider, else
 *   `AI_FIRST_TOKEN_TIMEOUT_MS`; likewise for `IDLE`. Without either, it depends on the model.
 */
export function createTimeoutsOf(
  settings: Readonly<Record<string, unknown>>,
  canThink: (model: string) => boolean,
): TimeoutsOf {
  const find = (model: string, limit: string): number => {
    const provider = toSettingName(model.slice(0, model.indexOf("/")));
    const set = settings[`AI_${provider}_${limit}`] ?? settings[`AI_${limit}`];
    if (typeof set === "number") return set;
    return canThink(model) ? THINKING_SILENCE_MS : SILENCE_MS;
  };
  return (model) => ({
    firstTokenMs: find(model, "FIRST_TOKEN_TIMEOUT_MS"),
    idleMs: find(model, "IDLE_TIMEOUT_MS"),
  });
}
