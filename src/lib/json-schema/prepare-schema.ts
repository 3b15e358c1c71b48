import type { Schema, SchemaDraft } from "@cfworker/json-schema";
import { escapePointer } from "../json.ts";
import { type Applicator, applicators, assertions, checkedFormats } from "./keywords.ts";
import { compileLinearPattern, estimateSize, isPattern, type LinearPattern } from "./linear-pattern.ts";
import { SchemaReferences } from "./references.ts";

/** UTF-16 units of a schema's JSON. */
export const SCHEMA_CHARS_MAX = 65_536;
/** Total instructions of all patterns of a schema; each pattern counts at least `PATTERN_COST`. */
export const PATTERN_INSTRUCTIONS_MAX = 10_000;
const PATTERN_COST = 50;
/** Schemas that may apply to one value, counted once per reference. */
export const SCHEMAS_PER_VALUE_MAX = 5_000;

/** A validated schema in the form that the validator needs: only known keywords, and only internal references. */
export type PreparedSchema = {
  schema: Schema | boolean;
  draft: SchemaDraft;
  /** By source; null: the pattern is not matched. */
  patterns: ReadonlyMap<string, LinearPattern | null>;
  /** The cost of checking one value with a schema, in addition to the value's size. */
  costs: WeakMap<object, number>;
};

/** A problem with a schema, and its location. */
export class InvalidSchemaError extends Error {
  readonly pointer: string;
  constructor(pointer: string, message: string) {
    super(message);
    this.pointer = pointer;
  }
}

/** Prepared schemas, because a schema is validated with the request and used again with the response. */
const known = new WeakMap<object, PreparedSchema>();

/**
 * Validates a schema from outside, and bounds its cost. The schema is JSON of bounded depth, and is not changed later.
 * @throws InvalidSchemaError
 */
export function prepareSchema(source: object): PreparedSchema {
  const before = known.get(source);
  if (before) return before;
  if (JSON.stringify(source).length > SCHEMA_CHARS_MAX)
    throw new InvalidSchemaError("#", `may have at most ${SCHEMA_CHARS_MAX} characters`);
  const preparation = new Preparation(source);
  const schema = preparation.copyRoot();
  const { patterns, costs } = preparation;
  const prepared = { schema, draft: findDraft(source), patterns, costs };
  known.set(source, prepared);
  return prepared;
}

/** The draft named by `$schema`; unknown ones are treated as the newest. */
function findDraft(source: unknown): SchemaDraft {
  const name = String((source as { $schema?: unknown }).$schema ?? "");
  if (/draft-0?[34]\b/.test(name)) return "4";
  if (/draft-0?[67]\b/.test(name)) return "7";
  return name.includes("2019-09") ? "2019-09" : "2020-12";
}

type Copy = Record<string, unknown>;

/** Copies the relevant parts of a schema. Referenced schemas become entries of `$defs`, once each. */
class Preparation {
  readonly patterns = new Map<string, LinearPattern | null>();
  readonly costs = new WeakMap<object, number>();
  readonly #source: unknown;
  readonly #places: SchemaReferences;
  readonly #isDraft2020: boolean;
  /** Names in `$defs`, by their source. */
  readonly #names = new Map<unknown, string>();
  readonly #definitions: Record<string, unknown> = {};
  /** Schemas that apply to the same value as their key. */
  readonly #inPlace = new Map<object, { pointer: string; schemas: unknown[] }>();
  #instructions = 0;

  constructor(source: unknown) {
    this.#source = source;
    this.#places = new SchemaReferences(source);
    this.#isDraft2020 = findDraft(source) === "2020-12";
  }

  copyRoot(): Schema | boolean {
    const root = this.#copy(this.#source, "#");
    this.#boundInPlace(root);
    if (typeof root === "boolean") return root;
    return { ...this.#share(root, { ...root, $defs: this.#definitions }) } as Schema;
  }

  #share(from: object, to: Copy): Copy {
    this.costs.set(to, this.costs.get(from) ?? 1);
    return to;
  }

  #copy(schema: unknown, pointer: string): Copy | boolean {
    if (typeof schema === "boolean") return schema;
    if (typeof schema !== "object" || schema === null || Array.isArray(schema))
      throw new InvalidSchemaError(pointer, "must be a schema: an object, true or false");
    const copy: Copy = {};
    const inPlace: unknown[] = [];
    this.#inPlace.set(copy, { pointer, schemas: inPlace });
    let cost = 1;
    for (const [keyword, value] of Object.entries(schema)) {
      const place = `${pointer}/${escapePointer(keyword)}`;
      const applicator = Object.hasOwn(applicators, keyword) ? applicators[keyword] : undefined;
      if (keyword === "$ref") {
        copy.$ref = this.#refer(value, place);
        inPlace.push(copy.$ref);
      } else if (keyword === "$dynamicRef" || keyword === "$recursiveRef")
        throw new InvalidSchemaError(place, "isn't supported; use $ref");
      else if (keyword === "dependencies") Object.assign(copy, this.#splitDependencies(value, place, inPlace));
      else if (applicator) {
        const held = this.#copyHeld(keyword, applicator.holds, value, place);
        copy[keyword] = held;
        const schemas = applicator.holds === "schema" ? [held] : Object.values(held as object);
        if (applicator.isInPlace) inPlace.push(...schemas);
        cost += schemas.length;
      } else if (Object.hasOwn(assertions, keyword)) {
        this.#check(keyword, value, place);
        if (keyword !== "format" || checkedFormats.has(value as string)) copy[keyword] = value;
        cost += sizeOf(value);
      }
    }
    this.costs.set(copy, cost);
    return copy;
  }

  #copyHeld(keyword: string, holds: Applicator, value: unknown, place: string): unknown {
    const isTuple = Array.isArray(value) && keyword === "items";
    if (isTuple && this.#isDraft2020)
      throw new InvalidSchemaError(place, "must be a schema; use prefixItems for a list");
    if (holds === "schemas" || isTuple) {
      if (!Array.isArray(value) || value.length === 0)
        throw new InvalidSchemaError(place, "must be a list of at least one schema");
      return value.map((item, index) => this.#copy(item, `${place}/${index}`));
    }
    if (holds === "schema") return this.#copy(value, place);
    const entries = readEntries(value, place);
    if (keyword === "patternProperties") for (const [source] of entries) this.#addPattern(source, place);
    return Object.fromEntries(
      entries.map(([name, item]) => [name, this.#copy(item, `${place}/${escapePointer(name)}`)]),
    );
  }

  /** A keyword of older drafts that was split into two. */
  #splitDependencies(value: unknown, place: string, inPlace: unknown[]): Copy {
    const entries = readEntries(value, place);
    const isNames = ([, item]: [string, unknown]) => Array.isArray(item);
    const required = Object.fromEntries(entries.filter(isNames));
    this.#check("dependentRequired", required, place);
    const schemas = entries
      .filter((entry) => !isNames(entry))
      .map(([name, item]) => [name, this.#copy(item, `${place}/${escapePointer(name)}`)] as const);
    inPlace.push(...schemas.map(([, copy]) => copy));
    return { dependentRequired: required, dependentSchemas: Object.fromEntries(schemas) };
  }

  #check(keyword: string, value: unknown, place: string): void {
    const rule = assertions[keyword];
    if (rule && !rule.isValid(value)) throw new InvalidSchemaError(place, rule.wanted);
    if (keyword === "pattern") this.#addPattern(value as string, place);
  }

  #addPattern(source: string, place: string): void {
    if (this.patterns.has(source)) return;
    if (!isPattern(source)) throw new InvalidSchemaError(place, "must have regular expressions as names");
    // Before it is compiled, since that of a large one takes long.
    this.#boundPatterns(estimateSize(source), place);
    const pattern = compileLinearPattern(source);
    this.patterns.set(source, pattern);
    this.#instructions += PATTERN_COST + (pattern?.size ?? 0);
    this.#boundPatterns(0, place);
  }

  #boundPatterns(next: number, place: string): void {
    if (this.#instructions + next > PATTERN_INSTRUCTIONS_MAX)
      throw new InvalidSchemaError(place, "exceeds the limit for the total size of a schema's patterns");
  }

  #refer(reference: unknown, place: string): string {
    if (typeof reference !== "string" || !reference.startsWith("#"))
      throw new InvalidSchemaError(
        place,
        "must refer to a place in the same schema (#…); external schemas are not fetched",
      );
    const found = this.#places.find(reference);
    if (!found) throw new InvalidSchemaError(place, "refers to a place that doesn't exist");
    if (found.value === this.#source) return "#";
    const known = this.#names.get(found.value);
    if (known !== undefined) return `#/$defs/${known}`;
    const name = String(this.#names.size);
    this.#names.set(found.value, name);
    this.#definitions[name] = this.#copy(found.value, found.pointer);
    return `#/$defs/${name}`;
  }

  /**
   * Bounds how many schemas apply to one value: references that lead back to themselves without descending into the value would
   * never end, and those that fork at each step would take exponential time.
   */
  #boundInPlace(root: unknown): void {
    const sizes = new Map<object, number>();
    const open = new Set<object>();
    const resolve = (item: unknown) =>
      typeof item === "string" ? (item === "#" ? root : this.#definitions[item.slice("#/$defs/".length)]) : item;
    const measure = (item: unknown): number => {
      const schema = resolve(item);
      if (typeof schema !== "object" || schema === null) return 1;
      const known = sizes.get(schema);
      if (known !== undefined) return known;
      const { pointer = "#", schemas = [] } = this.#inPlace.get(schema) ?? {};
      if (open.has(schema)) throw new InvalidSchemaError(pointer, "refers to itself endlessly");
      open.add(schema);
      const size = schemas.reduce<number>((sum, inner) => sum + measure(inner), 1);
      open.delete(schema);
      if (size > SCHEMAS_PER_VALUE_MAX)
        throw new InvalidSchemaError(pointer, `applies more than ${SCHEMAS_PER_VALUE_MAX} schemas to one value`);
      sizes.set(schema, size);
      return size;
    };
    for (const schema of this.#inPlace.keys()) measure(schema);
  }
}

function readEntries(value: unknown, place: string): [string, unknown][] {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new InvalidSchemaError(place, "must be an object");
  return Object.entries(value);
}

/** UTF-16 units of a list (such as `enum`) whose comparison costs one step. */
const CHARS_PER_STEP = 50;

const sizeOf = (value: unknown): number =>
  typeof value === "object" && value !== null ? Math.ceil(JSON.stringify(value).length / CHARS_PER_STEP) : 1;
