import { extraFields, isHint } from "../../extra-fields.ts";
import type { Api } from "../../wire-format.ts";
import { asFields, type Fields } from "../read-fields.ts";

export type Body = Fields;

type Path = readonly string[];

/** A change to a request body for a model that rejects a parameter. By default, the parameter is omitted. */
export type Change = {
  /** The parameter's name in errors, without list positions. */
  readonly parameter: string;
  /** Its paths in the body. `*` stands for every list entry. */
  readonly paths: readonly Path[];
  /** If set, the parameter is renamed rather than omitted, because it limits the cost of an answer. */
  readonly renamedTo?: string;
  /** Matches errors that reject the parameter without mentioning its exact name. */
  readonly prosePattern?: RegExp;
  /** Whether a lower value may be accepted (lower-effort.ts). */
  readonly isOrdered?: boolean;
  /** If set, only the value `from` is replaced. If `to` is null, the parameter is then omitted. */
  readonly value?: { readonly from: string; readonly to: string | null };
  /** If set, the parameter is omitted only for values that are the provider's default. */
  readonly canOmit?: (value: unknown) => boolean;
};

const createOmission = (parameter: string, ...paths: Path[]): Change => ({
  parameter,
  paths: paths.length > 0 ? paths : [parameter.split(".")],
});

const isAuto = (value: unknown): boolean => value === "auto" || asFields(value).type === "auto";

/**
 * The parameters that can be omitted. Messages, tools and formats can't be omitted, because the answer would be different.
 */
const omissions: readonly Change[] = [
  createOmission("temperature"),
  createOmission("top_p"),
  createOmission("stop"),
  createOmission("stop_sequences"),
  createOmission("stream_options"),
  createOmission("parallel_tool_calls"),
  createOmission("disable_parallel_tool_use", ["tool_choice", "disable_parallel_tool_use"]),
  { ...createOmission("tool_choice"), canOmit: isAuto },
  createOmission("reasoning.summary"),
  { ...createOmission("reasoning.effort"), isOrdered: true },
  createOmission("reasoning"),
  { ...createOmission("reasoning_effort"), isOrdered: true },
  { ...createOmission("output_config.effort"), isOrdered: true, prosePattern: /\beffort parameter\b/i },
  { ...createOmission("thinking"), prosePattern: /\badaptive thinking\b|\bthinking\.type\b/i },
  createOmission("chat_template_kwargs"),
  createOmission("include"),
  createOmission("store"),
  ...extraFields.filter(isHint).map((field) => createOmission(field)),
  createOmission("strict", ["tools", "*", "strict"], ["tools", "*", "function", "strict"]),
  createOmission(
    "cache_control",
    ["system", "*", "cache_control"],
    ["tools", "*", "cache_control"],
    ["messages", "*", "content", "*", "cache_control"],
  ),
];

const renamings: readonly Change[] = [
  { ...createOmission("max_tokens"), renamedTo: "max_completion_tokens" },
  { ...createOmission("max_completion_tokens"), renamedTo: "max_tokens" },
];

const changesByApi: Record<Api, readonly Change[]> = {
  responses: omissions,
  messages: omissions,
  chat: [...omissions, ...renamings],
};

/** Returns the changes that would alter a body. */
export const listChanges = (api: Api, body: Body): Change[] =>
  changesByApi[api].filter(
    ({ paths, canOmit }) =>
      paths.some((path) => hasPath(body, path)) && (!canOmit || canOmit(body[paths[0]?.[0] ?? ""])),
  );

/** Returns the change for a parameter. @throws Error if there is none. */
export function getChange(api: Api, parameter: string): Change {
  const change = changesByApi[api].find((candidate) => candidate.parameter === parameter);
  if (!change) throw new Error(`The parameter ${parameter} can't be omitted.`);
  return change;
}

/** Applies a change to a body. Returns the same object if nothing changes. */
export function applyChange(body: Body, change: Change): Body {
  const { paths, renamedTo, canOmit, value: replacement } = change;
  if (replacement)
    return getParameter(body, change) === replacement.from ? changeValue(body, paths[0] ?? [], replacement.to) : body;
  if (canOmit && !canOmit(body[paths[0]?.[0] ?? ""])) return body;
  const value = renamedTo === undefined ? undefined : body[paths[0]?.[0] ?? ""];
  const bodyWithoutParameter = paths.reduce((copy, path) => (hasPath(copy, path) ? omitPath(copy, path) : copy), body);
  return renamedTo === undefined || value === undefined
    ? bodyWithoutParameter
    : { [renamedTo]: value, ...bodyWithoutParameter };
}

/** Returns the value of a parameter that has a single path. */
export function getParameter(body: Body, { paths: [path = []] }: Change): unknown {
  return path.reduce<unknown>((value, step) => asFields(value)[step], body);
}

const changeValue = (body: Body, path: Path, to: string | null): Body =>
  to === null ? omitPath(body, path) : setPath(body, path, to);

function setPath(fields: Fields, [first = "", ...rest]: Path, value: unknown): Fields {
  return { ...fields, [first]: rest.length === 0 ? value : setPath(asFields(fields[first]), rest, value) };
}

function hasPath(value: unknown, [first, ...rest]: Path): boolean {
  if (first === undefined) return value !== undefined;
  if (first === "*") return Array.isArray(value) && value.some((entry) => hasPath(entry, rest));
  return hasPath(asFields(value)[first], rest);
}

/** Returns a copy without the value at a path. Objects that become empty are omitted too, because they may be rejected. */
function omitPath<Value>(value: Value, [first, ...rest]: Path): Value {
  if (first === "*" && Array.isArray(value)) return value.map((entry) => omitPath(entry, rest)) as Value;
  const fields = asFields(value);
  if (first === undefined || !(first in fields)) return value;
  const { [first]: inner, ...others } = fields;
  const remaining = rest.length === 0 ? undefined : omitPath(inner, rest);
  return (remaining === undefined || isEmptyObject(remaining) ? others : { ...fields, [first]: remaining }) as Value;
}

const isEmptyObject = (value: unknown): boolean =>
  typeof value === "object" && value !== null && !Array.isArray(value) && Object.keys(value).length === 0;
