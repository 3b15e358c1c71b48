import { readFields } from "../read-fields.ts";
import type { Body, Change } from "./optional.ts";

/** The content of a response with status 400 or 422. */
export type Refusal = {
  /** Its sentences, in order. */
  prose: string;
  /** Parameters named in a dedicated field, such as `tools.function.strict`. */
  named: readonly string[];
};

/** Deeper than any provider nests its errors. */
const DEPTH_MAX = 8;
/** UTF-16 units that are searched. */
const PROSE_LENGTH_MAX = 8_000;

/** Fields that repeat the request, or say the same in every error. */
const ignoredFields = new Set(["input", "ctx", "url", "body", "request", "request_id", "type", "object", "status"]);

/** Lists of accepted alternatives: parameters in them are not rejected. */
const alternatives =
  /(?<!not )\b(?:expected one of|(?:supported|allowed|valid|available|accepted|known) (?:parameters|arguments|fields|keys|options|values))\b[^\n]*/gi;

/** Reads an error in any server's format: OpenAI's and Azure's `error.param`, FastAPI's `loc`, sentences. */
export function readRefusal(text: string): Refusal {
  const sentences: string[] = [];
  const named: string[] = [];

  function walk(value: unknown, depth: number): void {
    if (depth > DEPTH_MAX) return;
    if (typeof value === "string") sentences.push(value);
    else if (Array.isArray(value)) for (const entry of value) walk(entry, depth + 1);
    else for (const [key, inner] of Object.entries(readFields(value))) visit(key, inner, depth);
  }

  function visit(key: string, value: unknown, depth: number): void {
    if (ignoredFields.has(key)) return;
    if (key === "loc" && Array.isArray(value)) named.push(joinPath(value));
    else if ((key === "param" || key === "field") && typeof value === "string")
      named.push(joinPath(value.split(/[.[\]]+/)));
    else walk(value, depth + 1);
  }

  walk(parse(text), 0);
  const prose = sentences.join("\n").slice(0, PROSE_LENGTH_MAX).replaceAll(alternatives, "");
  return { prose, named: [...named, ...readPrintedPaths(prose)].filter((name) => name !== "") };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** Formats `["body", "tools", 0, "function", "strict"]` as `tools.function.strict`. */
const joinPath = (place: readonly unknown[]): string =>
  place.filter((step) => typeof step === "string" && step !== "body" && !/^\d*$/.test(step)).join(".");

/** FastAPI's list of errors as printed by Python inside a sentence: `'loc': ('body', 'stream_options')`. */
const readPrintedPaths = (prose: string): string[] =>
  [...prose.matchAll(/["']loc["']:\s*[([]([^)\]]{0,200})[)\]]/g)].map(([, place = ""]) =>
    joinPath([...place.matchAll(/["']([^"']+)["']/g)].map(([, step]) => step)),
  );

/** The conversation, or the requested answer, is too long: no parameter is at fault. */
const tooLong =
  /context[_ ](?:length|window|size)|maximum context|prompt is too long|input is too long|too many (?:input )?tokens/i;

/** Matches a rejection; sentences that only mention a parameter don't count. */
const refuses = new RegExp(
  [
    "un(?:supported|recogni[sz]ed|known|expected|available)|deprecated|forbidden|disallowed|incompatible|invalid(?!_request)",
    "extra (?:inputs?|fields?|keys?|parameters?)|additional (?:propert|field|parameter)",
    "(?:not|n't|n’t|no longer|never) (?:\\w+ ){0,2}(?:support|permit|allow|accept|recogni[sz]|be\\b|us|implement|enabl|available|valid|found|compatible|take)",
    "can ?not|can't|can’t|does not|doesn't|must|\\bonly\\b|mutually|remove",
  ].join("|"),
  "i",
);

/** The value is rejected; another one may be accepted. */
const refusesValue = new RegExp(
  [
    "less than|greater than|at (?:most|least)|no more than|\\b(?:maximum|minimum|range|between)\\b",
    "(?:above|below|exceed\\w*|over|under)\\b.{0,40}\\b(?:max|min|limit)|too (?:large|small|high|low|big|long|many)",
    "[<>]=?\\s*-?\\d|≤|≥|\\binvalid\\b(?! (?:parameter|argument|field|property|key|option|request|json))",
  ].join("|"),
  "i",
);

/** The change that an error calls for. */
export type RequestFix = {
  changes: readonly Change[];
  /** Whether later requests would fail too; false if another value would work. */
  isLasting: boolean;
};

/**
 * Returns what to change in a rejected request, out of the possible changes; null if the error isn't about them.
 * @param body the rejected body.
 */
export function findFix({ prose, named }: Refusal, possible: readonly Change[], body: Body): RequestFix | null {
  if (tooLong.test(prose)) return null;
  const isLasting = !refusesValue.test(prose);
  // A limit in a form that the model can't accept must still limit the answer.
  const candidates = isLasting ? possible : possible.filter(({ renamedTo }) => renamedTo === undefined);
  const byField = candidates.filter((change) => named.some((name) => isMeant(name, change)));
  if (byField.length > 0) return { changes: preferLonger(byField), isLasting };
  // It names something that the answer can't do without.
  if (named.some((name) => (name.split(".")[0] ?? "") in body)) return null;
  const change = refuses.test(prose) ? findInProse(prose, candidates) : null;
  return change && { changes: [change], isLasting };
}

/** `stream_options.include_usage` means `stream_options`; `tools.function.strict` means `strict`. */
const isMeant = (name: string, { parameter, paths }: Change): boolean =>
  name === parameter ||
  name.startsWith(`${parameter}.`) ||
  (name.endsWith(`.${parameter}`) && paths.some(([first]) => first === name.split(".")[0]));

/** Drops names that are only the start of another: of `reasoning.summary` and `reasoning`, keeps the first. */
const preferLonger = (changes: readonly Change[]): Change[] =>
  changes.filter(({ parameter }) => !changes.some((other) => other.parameter.startsWith(`${parameter}.`)));

/**
 * The first named parameter. If `temperature` and another one can't be combined, `temperature` stays, as the more common
 * one.
 */
function findInProse(prose: string, candidates: readonly Change[]): Change | null {
  const found = candidates
    .map((change) => ({ change, at: findMention(prose, change) }))
    .filter(({ at }) => at >= 0)
    .sort((one, other) => one.at - other.at || other.change.parameter.length - one.change.parameter.length);
  const first = found[0]?.change ?? null;
  if (first?.parameter !== "temperature") return first;
  return found.find(({ change }) => change.parameter === "top_p")?.change ?? first;
}

/** Where a text rejects a parameter, or -1. */
function findMention(prose: string, { parameter, prose: sentence }: Change): number {
  const at = findName(prose, parameter);
  return at < 0 && sentence ? prose.search(sentence) : at;
}

const QUOTES = "[\"'`“”‘’]";
const BEFORE_A_NAME =
  "(?:argument|parameter|param|field|property|key|option|name|supplied|input|permitted|allowed|(?:un)?supported|unrecogni[sz]ed|unknown|unexpected|forbidden|deprecated)s?[^\\w.]{1,4}";

/** Where a text names a parameter, or -1. Plain English words count only when used as a name. */
function findName(prose: string, parameter: string): number {
  // Some servers spell it `MaxTokens` or `streamOptions`.
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
