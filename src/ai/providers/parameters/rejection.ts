import { asFields } from "../read-fields.ts";
import type { Body, Change } from "./optional.ts";

/** The content of a response with status 400 or 422. */
export type Rejection = {
  /** The response's sentences in order. */
  prose: string;
  /** Parameters named in a dedicated field, such as `tools.function.strict`. */
  names: readonly string[];
};

/** Maximum depth of an error body that is searched. */
const DEPTH_MAX = 8;
/** Maximum length of the sentences that are searched, in UTF-16 code units. */
const PROSE_LENGTH_MAX = 8_000;

/** Fields that repeat the request, or are the same in every error. */
const ignoredFields = new Set(["input", "ctx", "url", "body", "request", "request_id", "type", "object", "status"]);

/** Matches lists of accepted parameters or values, which are ignored, because their entries weren't rejected. */
const alternativesPattern =
  /(?<!not )\b(?:expected one of|(?:supported|allowed|valid|available|accepted|known) (?:parameters|arguments|fields|keys|options|values))\b[^\n]*/gi;

/** Parses an error in any server's format: OpenAI's `error.param`, FastAPI's `loc`, or sentences. */
export function parseRejection(text: string): Rejection {
  const sentences: string[] = [];
  const names: string[] = [];

  function collectValue(value: unknown, depth: number): void {
    if (depth > DEPTH_MAX) return;
    if (typeof value === "string") sentences.push(value);
    else if (Array.isArray(value)) for (const entry of value) collectValue(entry, depth + 1);
    else for (const [key, inner] of Object.entries(asFields(value))) collectField(key, inner, depth);
  }

  function collectField(key: string, value: unknown, depth: number): void {
    if (ignoredFields.has(key)) return;
    if (key === "loc" && Array.isArray(value)) names.push(joinPath(value));
    else if ((key === "param" || key === "field") && typeof value === "string")
      names.push(joinPath(value.split(/[.[\]]+/)));
    else collectValue(value, depth + 1);
  }

  collectValue(parseJsonOrText(text), 0);
  const prose = sentences.join("\n").slice(0, PROSE_LENGTH_MAX).replaceAll(alternativesPattern, "");
  return { prose, names: [...names, ...findPrintedPaths(prose)].filter((name) => name !== "") };
}

function parseJsonOrText(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** Formats `["body", "tools", 0, "function", "strict"]` as `tools.function.strict`. */
const joinPath = (path: readonly unknown[]): string =>
  path.filter((step) => typeof step === "string" && step !== "body" && !/^\d*$/.test(step)).join(".");

/** Finds paths in FastAPI errors that Python printed into a sentence: `'loc': ('body', 'stream_options')`. */
const findPrintedPaths = (prose: string): string[] =>
  [...prose.matchAll(/["']loc["']:\s*[([]([^)\]]{0,200})[)\]]/g)].map(([, path = ""]) =>
    joinPath([...path.matchAll(/["']([^"']+)["']/g)].map(([, step]) => step)),
  );

/** Matches errors about the length of the prompt, which no parameter change can fix. */
const promptTooLongPattern =
  /context[_ ](?:length|window|size)|maximum context|prompt is too long|input is too long|too many (?:input )?tokens/i;

/** Matches the words of a rejection, because a sentence may also just mention a parameter. */
const rejectionPattern = new RegExp(
  [
    "un(?:supported|recogni[sz]ed|known|expected|available)|deprecated|forbidden|disallowed|incompatible|invalid(?!_request)",
    "extra (?:inputs?|fields?|keys?|parameters?)|additional (?:propert|field|parameter)",
    "(?:not|n't|n’t|no longer|never) (?:\\w+ ){0,2}(?:support|permit|allow|accept|recogni[sz]|be\\b|us|implement|enabl|available|valid|found|compatible|take)",
    "can ?not|can't|can’t|does not|doesn't|must|\\bonly\\b|mutually|remove",
  ].join("|"),
  "i",
);

/** Matches errors about a parameter's value. A different value may be accepted. */
const valueRejectionPattern = new RegExp(
  [
    "less than|greater than|at (?:most|least)|no more than|\\b(?:maximum|minimum|range|between)\\b",
    "(?:above|below|exceed\\w*|over|under)\\b.{0,40}\\b(?:max|min|limit)|too (?:large|small|high|low|big|long|many)",
    "[<>]=?\\s*-?\\d|≤|≥|\\binvalid\\b(?! (?:parameter|argument|field|property|key|option|request|json))",
  ].join("|"),
  "i",
);

/** The changes that an error requires. */
export type RequestFix = {
  changes: readonly Change[];
  /** Whether the model will always reject the parameter. False if it only rejects the value. */
  isPermanent: boolean;
};

/**
 * Returns the changes that an error requires, or null if it isn't about any of the possible changes.
 * @param body the rejected body.
 */
export function findRequestFix(
  { prose, names }: Rejection,
  possibleChanges: readonly Change[],
  body: Body,
): RequestFix | null {
  if (promptTooLongPattern.test(prose)) return null;
  const isPermanent = !valueRejectionPattern.test(prose);
  // Renaming doesn't help if the value is rejected.
  const candidates = isPermanent ? possibleChanges : possibleChanges.filter(({ renamedTo }) => renamedTo === undefined);
  const namedChanges = candidates.filter((change) => names.some((name) => refersTo(name, change)));
  if (namedChanges.length > 0) return { changes: preferMoreSpecific(namedChanges), isPermanent };
  // The error is about a parameter that can't be changed.
  if (names.some((name) => (name.split(".")[0] ?? "") in body)) return null;
  const change = rejectionPattern.test(prose) ? findInProse(prose, candidates) : null;
  return change && { changes: [change], isPermanent };
}

/** Whether a name in an error refers to a parameter. `tools.function.strict` refers to `strict`. */
const refersTo = (name: string, { parameter, paths }: Change): boolean =>
  name === parameter ||
  name.startsWith(`${parameter}.`) ||
  (name.endsWith(`.${parameter}`) && paths.some(([first]) => first === name.split(".")[0]));

/** Drops changes to a parameter if one of its fields is changed, for example `reasoning` because of `reasoning.summary`. */
const preferMoreSpecific = (changes: readonly Change[]): Change[] =>
  changes.filter(({ parameter }) => !changes.some((other) => other.parameter.startsWith(`${parameter}.`)));

/**
 * Returns the change for the first parameter mentioned in the text. If both `temperature` and `top_p` are mentioned, `top_p` is
 * changed, because the two can't be combined.
 */
function findInProse(prose: string, candidates: readonly Change[]): Change | null {
  const mentions = candidates
    .map((change) => ({ change, index: findMentionIndex(prose, change) }))
    .filter(({ index }) => index >= 0)
    .sort((a, b) => a.index - b.index || b.change.parameter.length - a.change.parameter.length);
  const firstChange = mentions[0]?.change ?? null;
  if (firstChange?.parameter !== "temperature") return firstChange;
  return mentions.find(({ change }) => change.parameter === "top_p")?.change ?? firstChange;
}

/** Returns the index at which a text mentions a parameter, or -1. */
function findMentionIndex(prose: string, { parameter, prosePattern: pattern }: Change): number {
  const index = findNameIndex(prose, parameter);
  return index < 0 && pattern ? prose.search(pattern) : index;
}

const QUOTES = "[\"'`“”‘’]";
const BEFORE_A_NAME =
  "(?:argument|parameter|param|field|property|key|option|name|supplied|input|permitted|allowed|(?:un)?supported|unrecogni[sz]ed|unknown|unexpected|forbidden|deprecated)s?[^\\w.]{1,4}";

/** Returns the index of a parameter's name in a text, or -1. An English word counts only if it is used as a name. */
function findNameIndex(prose: string, parameter: string): number {
  // Also matches `MaxTokens` and `streamOptions`.
  const name = parameter
    .replaceAll(".", "[._ ]")
    .replaceAll("_", "_?")
    .replace(/summary$/, "summar(?:y|ies)");
  if (parameter === "temperature" || /[_.]/.test(parameter))
    return prose.search(new RegExp(`(?<!\\w)${name}(?!\\w)`, "i"));
  const forms = [
    `${QUOTES}${name}${QUOTES}`,
    `\\b${BEFORE_A_NAME}${name}\\b`,
    `(?:^|[\\n.,;(>$]\\s*)${name}\\s*(?::|\\n|(?:is|are) (?:not|un)\\w+)`,
  ];
  return prose.search(new RegExp(forms.join("|"), "i"));
}
