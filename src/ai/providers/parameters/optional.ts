import { extraFields, isHint } from "../../extra-fields.ts";
import type { Api } from "../../wire-format.ts";
import { type Fields, readFields } from "../read-fields.ts";

/** A request body. */
export type Body = Fields;

type Path = readonly string[];

/** A change that makes a body acceptable to a model that rejects a parameter. */
export type Change = {
  /** The parameter as named in errors, without list positions. If two match, the longer name is meant. */
  readonly parameter: string;
  /** Where it is in the body; `*` stands for every list entry. */
  readonly paths: readonly Path[];
  /** Its other name, if any. It is then never omitted, because it limits the cost of an answer. */
  readonly renamedTo?: string;
  /** Matches an error that rejects it without naming it. */
  readonly prose?: RegExp;
  /** Its values are ordered: a lower one may be accepted (lower-effort.ts). */
  readonly isOrdered?: boolean;
  /** Replaces only this value; null omits it. */
  readonly value?: { readonly from: string; readonly to: string | null };
  /** Only if its value is the provider's default anyway. */
  readonly isDroppable?: (value: unknown) => boolean;
};

const drop = (parameter: string, ...paths: Path[]): Change => ({
  parameter,
  paths: paths.length > 0 ? paths : [parameter.split(".")],
});

const isAuto = (value: unknown): boolean => value === "auto" || readFields(value).type === "auto";

/**
 * Everything that an answer can do without. Messages, tools and formats are not listed: omitting them changes the answer's
 * meaning.
 */
const droppable: readonly Change[] = [
  drop("temperature"),
  drop("top_p"),
  drop("stop"),
  drop("stop_sequences"),
  drop("stream_options"),
  drop("parallel_tool_calls"),
  drop("disable_parallel_tool_use", ["tool_choice", "disable_parallel_tool_use"]),
  { ...drop("tool_choice"), isDroppable: isAuto },
  drop("reasoning.summary"),
  { ...drop("reasoning.effort"), isOrdered: true },
  drop("reasoning"),
  { ...drop("reasoning_effort"), isOrdered: true },
  { ...drop("output_config.effort"), isOrdered: true, prose: /\beffort parameter\b/i },
  { ...drop("thinking"), prose: /\badaptive thinking\b|\bthinking\.type\b/i },
  drop("chat_template_kwargs"),
  drop("include"),
  drop("store"),
  ...extraFields.filter(isHint).map((field) => drop(field)),
  drop("strict", ["tools", "*", "strict"], ["tools", "*", "function", "strict"]),
  drop(
    "cache_control",
    ["system", "*", "cache_control"],
    ["tools", "*", "cache_control"],
    ["messages", "*", "content", "*", "cache_control"],
  ),
];

const renamed: readonly Change[] = [
  { ...drop("max_tokens"), renamedTo: "max_completion_tokens" },
  { ...drop("max_completion_tokens"), renamedTo: "max_tokens" },
];

const changes: Record<Api, readonly Change[]> = {
  responses: droppable,
  messages: droppable,
  chat: [...droppable, ...renamed],
};

/** The changes that would alter a body. */
export const listChanges = (api: Api, body: Body): Change[] =>
  changes[api].filter(
    ({ paths, isDroppable }) =>
      paths.some((path) => hasPath(body, path)) && (!isDroppable || isDroppable(body[paths[0]?.[0] ?? ""])),
  );

/** The change for a parameter. @throws Error if there is none. */
export function getChange(api: Api, parameter: string): Change {
  const found = changes[api].find((change) => change.parameter === parameter);
  if (!found) throw new Error(`The parameter ${parameter} cannot be left out.`);
  return found;
}

/** Applies a change to a body; returns the same object if nothing changes. */
export function applyChange(body: Body, change: Change): Body {
  const { paths, renamedTo, isDroppable, value: changed } = change;
  if (changed) return readOrdered(body, change) === changed.from ? changeValue(body, paths[0] ?? [], changed.to) : body;
  if (isDroppable && !isDroppable(body[paths[0]?.[0] ?? ""])) return body;
  const value = renamedTo === undefined ? undefined : body[paths[0]?.[0] ?? ""];
  const without = paths.reduce((changed, path) => (hasPath(changed, path) ? dropPath(changed, path) : changed), body);
  return renamedTo === undefined || value === undefined ? without : { [renamedTo]: value, ...without };
}

/** The value of a parameter with a single path. */
export function readOrdered(body: Body, { paths: [path = []] }: Change): unknown {
  return path.reduce<unknown>((value, step) => readFields(value)[step], body);
}

const changeValue = (body: Body, path: Path, to: string | null): Body =>
  to === null ? dropPath(body, path) : setPath(body, path, to);

function setPath(fields: Fields, [first = "", ...rest]: Path, value: unknown): Fields {
  return { ...fields, [first]: rest.length === 0 ? value : setPath(readFields(fields[first]), rest, value) };
}

function hasPath(value: unknown, [first, ...rest]: Path): boolean {
  if (first === undefined) return value !== undefined;
  if (first === "*") return Array.isArray(value) && value.some((entry) => hasPath(entry, rest));
  return hasPath(readFields(value)[first], rest);
}

/** Copies only what is on the path. Also removes objects left empty, which may be rejected in turn. */
function dropPath<Value>(value: Value, [first, ...rest]: Path): Value {
  if (first === "*" && Array.isArray(value)) return value.map((entry) => dropPath(entry, rest)) as Value;
  const fields = readFields(value);
  if (first === undefined || !(first in fields)) return value;
  const { [first]: inner, ...others } = fields;
  const left = rest.length === 0 ? undefined : dropPath(inner, rest);
  return (left === undefined || isEmptyObject(left) ? others : { ...fields, [first]: left }) as Value;
}

const isEmptyObject = (value: unknown): boolean =>
  typeof value === "object" && value !== null && !Array.isArray(value) && Object.keys(value).length === 0;
