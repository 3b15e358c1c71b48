import { toSettingName } from "../config/providers.ts";

/** How long a model may send nothing, before and after its first text, reasoning or tool call. Milliseconds. */
type Timeouts = { firstTokenMs: number; idleMs: number };

/** The timeouts of a model (`provider/name`). */
export type TimeoutsOf = (model: string) => Timeouts;

/** For models known not to think: they write immediately, or not at all. */
export const SILENCE_MS = 30_000;
/**
 * For thinking and unknown models. Many send nothing for minutes while they think. An attempt that is cut off too early is
 * paid for and lost; cutting off too late only costs time.
 */
export const THINKING_SILENCE_MS = 300_000;

/**
 * @param settings values by setting name: `AI_<NAME>_FIRST_TOKEN_TIMEOUT_MS` of the model's provider, else
 * `AI_FIRST_TOKEN_TIMEOUT_MS`; the same for `IDLE`. Without either, the model decides.
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
