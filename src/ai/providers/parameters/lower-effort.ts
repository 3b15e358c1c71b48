import type { ReasoningEffort } from "../../../protocol/reasoning-effort.ts";
import { findNearestEffort, getLowerEffort, isEffort } from "../../model-traits.ts";
import { type Body, type Change, getParameter } from "./optional.ts";

const quotedEffort = /["'`‘“](none|minimal|low|medium|high|xhigh)["'`’”]/g;
const unquotedEffort = /\b(?:none|minimal|low|medium|high|xhigh)\b/g;
/** Matches a list without quotes: `must be one of low, medium, high`. */
const effortList = /(?:one of|should be|must be|values?(?: are| is)?:?|expected)\b[^.\n]*/gi;
const valueRejection = /\b(?:value|invalid)\b/i;

/** All created changes by key, so that equal changes are the same object. Changes are compared by identity. */
const changes = new Map<string, Change>();

function getValueChange(base: Change, from: ReasoningEffort, to: ReasoningEffort | null): Change {
  const key = `${base.parameter} ${from} ${to}`;
  const change = changes.get(key) ?? { parameter: base.parameter, paths: base.paths, value: { from, to } };
  changes.set(key, change);
  return change;
}

/**
 * Returns a change that replaces a rejected effort with the nearest effort that the error mentions, or with the next lower one.
 * If there is no lower effort, or the model doesn't support efforts, the change omits the effort.
 */
export function createLowerEffortChange(base: Change, body: Body, errorText: string): Change {
  const from = getParameter(body, base);
  if (!isEffort(from)) return base;
  const mentionedEfforts = listEfforts(errorText);
  const accepted = mentionedEfforts.filter((value) => value !== from);
  if (accepted.length > 0) return getValueChange(base, from, findNearestEffort(from, accepted));
  return mentionedEfforts.length > 0 || valueRejection.test(errorText)
    ? getValueChange(base, from, getLowerEffort(from))
    : base;
}

function listEfforts(errorText: string): ReasoningEffort[] {
  const quotedEfforts = [...errorText.matchAll(quotedEffort)].map(([, value]) => value);
  const lists = quotedEfforts.length > 0 ? [] : [...errorText.matchAll(effortList)].map(([list]) => list);
  return [...quotedEfforts, ...lists.flatMap((list) => list.match(unquotedEffort) ?? [])].filter(isEffort);
}
