import type { ReasoningEffort } from "../../../protocol/reasoning-effort.ts";
import { findNearestEffort, isEffort, lowerEffort } from "../../model-traits.ts";
import { type Body, type Change, getParameter } from "./optional.ts";

const quoted = /["'`‘“](none|minimal|low|medium|high|xhigh)["'`’”]/g;
const unquoted = /\b(?:none|minimal|low|medium|high|xhigh)\b/g;
/** Matches a list without quotes: `must be one of low, medium, high`. */
const listed = /(?:one of|should be|must be|values?(?: are| is)?:?|expected)\b[^.\n]*/gi;
const rejectsValue = /\b(?:value|invalid)\b/i;

/** All created changes by key, so that equal changes are the same object. Changes are compared by identity. */
const changes = new Map<string, Change>();

function getValueChange(base: Change, from: ReasoningEffort, to: ReasoningEffort | null): Change {
  const key = `${base.parameter} ${from} ${to}`;
  const existing = changes.get(key) ?? { parameter: base.parameter, paths: base.paths, value: { from, to } };
  changes.set(key, existing);
  return existing;
}

/**
 * Returns a change that replaces a rejected effort with the nearest effort named in the error, or with the next lower effort.
 * If there is no lower effort, or the model doesn't support efforts, the change omits the effort.
 */
export function createLowerEffortChange(base: Change, body: Body, errorText: string): Change {
  const from = getParameter(body, base);
  if (!isEffort(from)) return base;
  const namedEfforts = listEfforts(errorText);
  const accepted = namedEfforts.filter((value) => value !== from);
  if (accepted.length > 0) return getValueChange(base, from, findNearestEffort(from, accepted));
  return namedEfforts.length > 0 || rejectsValue.test(errorText) ? getValueChange(base, from, lowerEffort(from)) : base;
}

function listEfforts(errorText: string): ReasoningEffort[] {
  const quotedEfforts = [...errorText.matchAll(quoted)].map(([, value]) => value);
  const lists = quotedEfforts.length > 0 ? [] : [...errorText.matchAll(listed)].map(([list]) => list);
  return [...quotedEfforts, ...lists.flatMap((list) => list.match(unquoted) ?? [])].filter(isEffort);
}
