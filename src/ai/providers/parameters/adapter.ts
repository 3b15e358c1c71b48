import { isOpenAiThinker, takesStop, takesTemperatureWithTopP } from "../../model-traits.ts";
import type { Api } from "../../wire-format.ts";
import { lowerOrdered } from "./lower-effort.ts";
import { applyChange, type Body, type Change, getChange, listChanges } from "./optional.ts";
import { findFix, readRefusal } from "./refusal.ts";

/** How often one request is changed after errors; then the last error is returned. */
export const ADAPTATIONS_MAX = 5;
/** Models whose rejected parameters are remembered; beyond that, the oldest is forgotten. */
export const LEARNED_MODELS_MAX = 1_000;

/** Whether a response with this status may reject a parameter. */
export const isRefusal = (status: number): boolean => status === 400 || status === 422;

/** One request while it is being adapted. */
export type Adaptation = {
  /** The body to send. */
  readonly body: Body;
  /** After a failed response: the body to send instead, or null if nothing helps. */
  retry(status: number, text: string): Body | null;
};

/** Omits or renames parameters that models are known to reject, and learns further ones. */
export type ParameterAdapter = { begin(body: Body): Adaptation };

/** Called once per learned rejection: the model (by the provider's name) no longer receives the parameter. */
type OnLearned = (model: string, parameter: string) => void;

type AdapterOptions = { api: Api; onLearned?: OnLearned | undefined };

/** Builds the adapter of one provider. Models have the provider's own names here. */
export function createParameterAdapter({ api, onLearned }: AdapterOptions): ParameterAdapter {
  const learned = new Map<string, Set<Change>>();

  function learn(model: string, change: Change): boolean {
    const changes = learned.get(model) ?? new Set();
    if (changes.has(change)) return false;
    if (!learned.has(model) && learned.size >= LEARNED_MODELS_MAX) {
      const [oldest = ""] = learned.keys();
      learned.delete(oldest);
    }
    learned.set(model, changes.add(change));
    onLearned?.(model, change.parameter);
    return true;
  }

  function forget(model: string, changes: readonly Change[]): void {
    for (const change of changes) learned.get(model)?.delete(change);
  }

  return {
    begin(original) {
      const model = typeof original.model === "string" ? original.model : "";
      const applied = new Set(listKnown(api, model, original).map((parameter) => getChange(api, parameter)));
      for (const change of learned.get(model) ?? []) applied.add(change);
      let body = followValues(applied, [...applied].reduce(applyChange, original));
      /** Changes learned from this request. */
      const learnedHere: Change[] = [];
      let attemptsLeft = ADAPTATIONS_MAX;

      return {
        body,
        retry(status, text) {
          if (!isRefusal(status)) return null;
          // Each change is made once.
          const possible = listChanges(api, body).filter((change) => !applied.has(change));
          const fix = findFix(readRefusal(text), possible, body);
          if (!fix) {
            // Omitting it did not help, so it may not have been the cause.
            forget(model, learnedHere);
            return null;
          }
          if (attemptsLeft === 0) return null;
          attemptsLeft -= 1;
          for (const refused of fix.changes) {
            const change = refused.isOrdered ? lowerOrdered(refused, body, text) : refused;
            applied.add(change);
            body = followValues(applied, applyChange(body, change));
            // A rejected value stays rejected.
            if ((fix.isLasting || change.value) && learn(model, change)) learnedHere.push(change);
          }
          return body;
        },
      };
    },
  };
}

/** Applies learned value changes repeatedly: one may lead to another rejected value. */
function followValues(changes: ReadonlySet<Change>, given: Body): Body {
  const ofValues = [...changes].filter(({ value }) => value);
  let body = given;
  for (let round = 0; round < ADAPTATIONS_MAX; round += 1) {
    const changed = ofValues.reduce(applyChange, body);
    if (changed === body) break;
    body = changed;
  }
  return body;
}

/** The parameters that a model is known to reject. */
function listKnown(api: Api, model: string, body: Body): string[] {
  if (api === "messages") return "temperature" in body && !takesTemperatureWithTopP(model) ? ["top_p"] : [];
  if (!isOpenAiThinker(model)) return [];
  const sampling = ["temperature", "top_p"];
  if (api === "responses") return sampling;
  return [...sampling, ...(takesStop(model) ? [] : ["stop"]), "max_tokens"];
}
