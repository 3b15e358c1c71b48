import { toSettingName } from "../config/providers.ts";

/** Timeouts before and after the first text, reasoning or tool call. They restart whenever the model sends something. */
type Timeouts = { firstTokenMs: number; idleMs: number };

/** Returns the timeouts of a model (`provider/name`). */
export type GetTimeouts = (model: string) => Timeouts;

/** Default timeout for models that don't think. */
export const SILENCE_TIMEOUT_MS = 30_000;
/**
 * Default timeout for thinking and unknown models. Many models send nothing for minutes while they think. The timeout is
 * generous, because an answer that is cut off still has to be paid for.
 */
export const THINKING_TIMEOUT_MS = 300_000;

/**
 * Returns a function that looks up a model's timeouts. The provider's setting (`AI_<NAME>_IDLE_TIMEOUT_MS`) takes precedence
 * over the general one (`AI_IDLE_TIMEOUT_MS`). The same applies to `FIRST_TOKEN`.
 * @param settings the settings' values by name.
 */
export function createTimeoutLookup(
  settings: Readonly<Record<string, unknown>>,
  canThink: (model: string) => boolean,
): GetTimeouts {
  const findTimeoutMs = (model: string, settingName: string): number => {
    const provider = toSettingName(model.slice(0, model.indexOf("/")));
    const configured = settings[`AI_${provider}_${settingName}`] ?? settings[`AI_${settingName}`];
    if (typeof configured === "number") return configured;
    return canThink(model) ? THINKING_TIMEOUT_MS : SILENCE_TIMEOUT_MS;
  };
  return (model) => ({
    firstTokenMs: findTimeoutMs(model, "FIRST_TOKEN_TIMEOUT_MS"),
    idleMs: findTimeoutMs(model, "IDLE_TIMEOUT_MS"),
  });
}
