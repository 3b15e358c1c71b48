import type { ReasoningEffort } from "../../../protocol/reasoning-effort.ts";
import { findNearestEffort, isEffort, lowerEffort } from "../../model-traits.ts";
import { type Body, type Change, readOrdered } from "./optional.ts";

const quoted = /["'`‘“](none|minimal|low|medium|high|xhigh)["'`’”]/g;
const unquoted = /\b(?:none|minimal|low|medium|high|xhigh)\b/g;
/** A list without quotes: `must be one of low, medium, high`. */
const listed = /(?:one of|should be|must be|values?(?: are| is)?:?|expected)\b[^.\n]*/gi;
const refusesValue = /\b(?:value|invalid)\b/i;

/** Created once each, so that changes can be compared by identity. */
const changes = new Map<string, Change>();

function change(base: Change, from: ReasoningEffort, to: ReasoningEffort | null): Change {
  const key = `${base.parameter} ${from} ${to}`;
  const known = changes.get(key) ?? { parameter: base.parameter, paths: base.paths, value: { from, to } };
  changes.set(key, known);
  return known;
}

/**
 * Changes a rejected effort to the nearest value named in the error, else to the next lower one. Omits it if there is none,
 * or if the model accepts no effort at all.
 */
export function lowerOrdered(base: Change, body: Body, refusal: string): Change {
  const from = readOrdered(body, base);
  if (!isEffort(from)) return base;
  const named = listEfforts(refusal);
  const taken = named.filter((value) => value !== from);
  if (taken.length > 0) return change(base, from, findNearestEffort(from, taken));
  return named.length > 0 || refusesValue.test(refusal) ? change(base, from, lowerEffort(from)) : base;
}

function listEfforts(refusal: string): ReasoningEffort[] {
  const words = [...refusal.matchAll(quoted)].map(([, value]) => value);
  const lists = words.length > 0 ? [] : [...refusal.matchAll(listed)].map(([list]) => list);
  return [...words, ...lists.flatMap((list) => list.match(unquoted) ?? [])].filter(isEffort);
}
