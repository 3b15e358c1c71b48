import { acceptsStop, acceptsTemperatureWithTopP, isOpenAiReasoningModel } from "../../model-traits.ts";
import type { Api } from "../../wire-format.ts";
import { createLowerEffortChange } from "./lower-effort.ts";
import { applyChange, type Body, type Change, getChange, listChanges } from "./optional.ts";
import { findRequestFix, parseRejection } from "./rejection.ts";

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

/** Omits or renames parameters that models reject, and detects such parameters from errors. */
export type ParameterAdapter = { startAdaptation(body: Body): Adaptation };

/** Called once for each parameter that a model rejects. `model` is the provider's own name. */
type OnParameterRejected = (model: string, parameter: string) => void;

type AdapterOptions = { api: Api; onParameterRejected?: OnParameterRejected | undefined };

/** Creates the adapter of one provider. */
export function createParameterAdapter({ api, onParameterRejected }: AdapterOptions): ParameterAdapter {
  const learnedChanges = new Map<string, Set<Change>>();

  function recordChange(model: string, change: Change): boolean {
    const changes = learnedChanges.get(model) ?? new Set();
    if (changes.has(change)) return false;
    if (!learnedChanges.has(model) && learnedChanges.size >= LEARNED_MODELS_MAX) {
      const [oldest = ""] = learnedChanges.keys();
      learnedChanges.delete(oldest);
    }
    learnedChanges.set(model, changes.add(change));
    onParameterRejected?.(model, change.parameter);
    return true;
  }

  function removeChanges(model: string, changes: readonly Change[]): void {
    for (const change of changes) learnedChanges.get(model)?.delete(change);
  }

  return {
    startAdaptation(original) {
      const model = typeof original.model === "string" ? original.model : "";
      const appliedChanges = new Set(
        listKnownRejections(api, model, original).map((parameter) => getChange(api, parameter)),
      );
      for (const change of learnedChanges.get(model) ?? []) appliedChanges.add(change);
      let body = applyValueChanges(appliedChanges, [...appliedChanges].reduce(applyChange, original));
      const newChanges: Change[] = [];
      let attemptsLeft = ADAPTATIONS_MAX;

      return {
        body,
        adaptBody(status, text) {
          if (!canRejectParameter(status)) return null;
          // Each change is tried only once.
          const possibleChanges = listChanges(api, body).filter((change) => !appliedChanges.has(change));
          const fix = findRequestFix(parseRejection(text), possibleChanges, body);
          if (!fix) {
            // The changes didn't help, so they may not have been needed.
            removeChanges(model, newChanges);
            return null;
          }
          if (attemptsLeft === 0) return null;
          attemptsLeft -= 1;
          for (const neededChange of fix.changes) {
            const change = neededChange.isOrdered ? createLowerEffortChange(neededChange, body, text) : neededChange;
            appliedChanges.add(change);
            body = applyValueChanges(appliedChanges, applyChange(body, change));
            // A model that rejects a value will always reject it.
            if ((fix.isPermanent || change.value) && recordChange(model, change)) newChanges.push(change);
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
    const changedBody = valueChanges.reduce(applyChange, body);
    if (changedBody === body) break;
    body = changedBody;
  }
  return body;
}

/** Returns the parameters that a model is known to reject. */
function listKnownRejections(api: Api, model: string, body: Body): string[] {
  if (api === "messages") return "temperature" in body && !acceptsTemperatureWithTopP(model) ? ["top_p"] : [];
  if (!isOpenAiReasoningModel(model)) return [];
  const samplingParameters = ["temperature", "top_p"];
  if (api === "responses") return samplingParameters;
  return [...samplingParameters, ...(acceptsStop(model) ? [] : ["stop"]), "max_tokens"];
}
