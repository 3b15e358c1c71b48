import { acceptsStop, acceptsTemperatureWithTopP, isOpenAiReasoningModel } from "../../model-traits.ts";
import type { Api } from "../../wire-format.ts";
import { createLowerEffortChange } from "./lower-effort.ts";
import { applyChange, type Body, type Change, getChange, listChanges } from "./optional.ts";
import { findFix, parseRejection } from "./rejection.ts";

/** Maximum number of times that a request is changed and sent again. */
export const ADAPTATIONS_MAX = 5;
/** Maximum number of models whose rejected parameters are remembered. */
export const LEARNED_MODELS_MAX = 1_000;

/** Whether a status can mean that a parameter was rejected. */
export const canRejectParameter = (status: number): boolean => status === 400 || status === 422;

/** One request while it is being adapted. */
export type Adaptation = {
  /** The body to send. */
  readonly body: Body;
  /** Returns the body to send after a failed response, or null if the request can't be adapted. */
  adaptBody(status: number, text: string): Body | null;
};

/** Omits or renames parameters that models reject, and learns such parameters from errors. */
export type ParameterAdapter = { begin(body: Body): Adaptation };

/** Called once for each parameter that a model rejects. `model` is the provider's own name. */
type OnLearned = (model: string, parameter: string) => void;

type AdapterOptions = { api: Api; onLearned?: OnLearned | undefined };

/** Creates the adapter of one provider. */
export function createParameterAdapter({ api, onLearned }: AdapterOptions): ParameterAdapter {
  const learnedChanges = new Map<string, Set<Change>>();

  function learn(model: string, change: Change): boolean {
    const changes = learnedChanges.get(model) ?? new Set();
    if (changes.has(change)) return false;
    if (!learnedChanges.has(model) && learnedChanges.size >= LEARNED_MODELS_MAX) {
      const [oldest = ""] = learnedChanges.keys();
      learnedChanges.delete(oldest);
    }
    learnedChanges.set(model, changes.add(change));
    onLearned?.(model, change.parameter);
    return true;
  }

  function forget(model: string, changes: readonly Change[]): void {
    for (const change of changes) learnedChanges.get(model)?.delete(change);
  }

  return {
    begin(original) {
      const model = typeof original.model === "string" ? original.model : "";
      const applied = new Set(listKnownRejections(api, model, original).map((parameter) => getChange(api, parameter)));
      for (const change of learnedChanges.get(model) ?? []) applied.add(change);
      let body = applyValueChanges(applied, [...applied].reduce(applyChange, original));
      const newChanges: Change[] = [];
      let attemptsLeft = ADAPTATIONS_MAX;

      return {
        body,
        adaptBody(status, text) {
          if (!canRejectParameter(status)) return null;
          // Each change is tried only once.
          const possible = listChanges(api, body).filter((change) => !applied.has(change));
          const fix = findFix(parseRejection(text), possible, body);
          if (!fix) {
            // The changes didn't help, so they may not have been needed.
            forget(model, newChanges);
            return null;
          }
          if (attemptsLeft === 0) return null;
          attemptsLeft -= 1;
          for (const rejected of fix.changes) {
            const change = rejected.isOrdered ? createLowerEffortChange(rejected, body, text) : rejected;
            applied.add(change);
            body = applyValueChanges(applied, applyChange(body, change));
            // A model that rejects a value will always reject it.
            if ((fix.isLasting || change.value) && learn(model, change)) newChanges.push(change);
          }
          return body;
        },
      };
    },
  };
}

/** Applies value changes repeatedly, because a new value may itself have to be changed. */
function applyValueChanges(changes: ReadonlySet<Change>, original: Body): Body {
  const valueChanges = [...changes].filter(({ value }) => value);
  let body = original;
  for (let round = 0; round < ADAPTATIONS_MAX; round += 1) {
    const changed = valueChanges.reduce(applyChange, body);
    if (changed === body) break;
    body = changed;
  }
  return body;
}

/** Returns the parameters that a model is known to reject. */
function listKnownRejections(api: Api, model: string, body: Body): string[] {
  if (api === "messages") return "temperature" in body && !acceptsTemperatureWithTopP(model) ? ["top_p"] : [];
  if (!isOpenAiReasoningModel(model)) return [];
  const sampling = ["temperature", "top_p"];
  if (api === "responses") return sampling;
  return [...sampling, ...(acceptsStop(model) ? [] : ["stop"]), "max_tokens"];
}
