import type { Schema, SchemaDraft } from "@cfworker/json-schema";
import { escapePointer } from "../json.ts";
import { type Applicator, applicators, assertions, checkedFormats } from "./keywords.ts";
import { compileLinearPattern, estimatePatternSize, isPattern, type LinearPattern } from "./linear-pattern.ts";
import { SchemaReferences } from "./references.ts";

/** Maximum length of a schema's JSON, in UTF-16 code units. */
export const SCHEMA_CHARS_MAX = 65_536;
/** Maximum number of instructions in all patterns of a schema. Each pattern counts as at least `PATTERN_COST`. */
export const PATTERN_INSTRUCTIONS_MAX = 10_000;
const PATTERN_COST = 50;
/** Maximum number of schemas that can apply to one value. Each reference to a schema counts. */
export const SCHEMAS_PER_VALUE_MAX = 5_000;

/** A checked schema with only known keywords and internal references. */
export type PreparedSchema = {
  schema: Schema | boolean;
  draft: SchemaDraft;
  /** The compiled patterns by source. Null means that the pattern isn't supported, and that every string satisfies it. */
  patterns: ReadonlyMap<string, LinearPattern | null>;
  /** The cost of checking a value against each schema, not including the value's size. */
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

/** Prepared schemas, which are used once for the request and once for the response. */
const preparedSchemas = new WeakMap<object, PreparedSchema>();

/**
 * Checks an untrusted schema and limits its cost. The schema must be JSON of limited depth and must not be changed later.
 * @throws InvalidSchemaError
 */
export function prepareSchema(source: object): PreparedSchema {
  const existing = preparedSchemas.get(source);
  if (existing) return existing;
  if (JSON.stringify(source).length > SCHEMA_CHARS_MAX)
    throw new InvalidSchemaError("#", `may have at most ${SCHEMA_CHARS_MAX} characters`);
  const preparation = new Preparation(source);
  const schema = preparation.copyRoot();
  const { patterns, costs } = preparation;
  const preparedSchema = { schema, draft: findDraft(source), patterns, costs };
  preparedSchemas.set(source, preparedSchema);
  return preparedSchema;
}

/** Returns the draft that `$schema` specifies. Unknown drafts are treated as the newest draft. */
function findDraft(source: unknown): SchemaDraft {
  const name = String((source as { $schema?: unknown }).$schema ?? "");
  if (/draft-0?[34]\b/.test(name)) return "4";
  if (/draft-0?[67]\b/.test(name)) return "7";
  return name.includes("2019-09") ? "2019-09" : "2020-12";
}

type Copy = Record<string, unknown>;

/** Copies the relevant parts of a schema. Each referenced schema becomes one entry in `$defs`. */
class Preparation {
  readonly patterns = new Map<string, LinearPattern | null>();
  readonly costs = new WeakMap<object, number>();
  readonly #source: unknown;
  readonly #references: SchemaReferences;
  readonly #isDraft2020: boolean;
  /** The names in `$defs` by source schema. */
  readonly #names = new Map<unknown, string>();
  readonly #definitions: Record<string, unknown> = {};
  /** For each schema, the subschemas that apply to the same value. */
  readonly #inPlace = new Map<object, { pointer: string; schemas: unknown[] }>();
  #instructions = 0;

  constructor(source: unknown) {
    this.#source = source;
    this.#references = new SchemaReferences(source);
    this.#isDraft2020 = findDraft(source) === "2020-12";
  }

  copyRoot(): Schema | boolean {
    const root = this.#copySchema(this.#source, "#");
    this.#limitSchemasPerValue(root);
    if (typeof root === "boolean") return root;
    return { ...this.#copyCost(root, { ...root, $defs: this.#definitions }) } as Schema;
  }

  #copyCost(from: object, to: Copy): Copy {
    this.costs.set(to, this.costs.get(from) ?? 1);
    return to;
  }

  #copySchema(schema: unknown, pointer: string): Copy | boolean {
    if (typeof schema === "boolean") return schema;
    if (typeof schema !== "object" || schema === null || Array.isArray(schema))
      throw new InvalidSchemaError(pointer, "must be a schema: an object, true or false");
    const copy: Copy = {};
    const inPlace: unknown[] = [];
    this.#inPlace.set(copy, { pointer, schemas: inPlace });
    let cost = 1;
    for (const [keyword, value] of Object.entries(schema)) {
      const location = `${pointer}/${escapePointer(keyword)}`;
      const applicator = Object.hasOwn(applicators, keyword) ? applicators[keyword] : undefined;
      if (keyword === "$ref") {
        copy.$ref = this.#resolveReference(value, location);
        inPlace.push(copy.$ref);
      } else if (keyword === "$dynamicRef" || keyword === "$recursiveRef")
        throw new InvalidSchemaError(location, "isn't supported; use $ref");
      else if (keyword === "dependencies") Object.assign(copy, this.#splitDependencies(value, location, inPlace));
      else if (applicator) {
        const content = this.#copySubschemas(keyword, applicator.content, value, location);
        copy[keyword] = content;
        const schemas = applicator.content === "schema" ? [content] : Object.values(content as object);
        if (applicator.isInPlace) inPlace.push(...schemas);
        cost += schemas.length;
      } else if (Object.hasOwn(assertions, keyword)) {
        this.#checkKeyword(keyword, value, location);
        if (keyword !== "format" || checkedFormats.has(value as string)) copy[keyword] = value;
        cost += getComparisonCost(value);
      }
    }
    this.costs.set(copy, cost);
    return copy;
  }

  #copySubschemas(keyword: string, content: Applicator, value: unknown, location: string): unknown {
    const isTuple = Array.isArray(value) && keyword === "items";
    if (isTuple && this.#isDraft2020)
      throw new InvalidSchemaError(location, "must be a schema; use prefixItems for a list");
    if (content === "schemas" || isTuple) {
      if (!Array.isArray(value) || value.length === 0)
        throw new InvalidSchemaError(location, "must be a list of at least one schema");
      return value.map((item, index) => this.#copySchema(item, `${location}/${index}`));
    }
    if (content === "schema") return this.#copySchema(value, location);
    const entries = requireEntries(value, location);
    if (keyword === "patternProperties") for (const [source] of entries) this.#addPattern(source, location);
    return Object.fromEntries(
      entries.map(([name, item]) => [name, this.#copySchema(item, `${location}/${escapePointer(name)}`)]),
    );
  }

  /** Splits the keyword `dependencies` of older drafts into the two keywords that replaced it. */
  #splitDependencies(value: unknown, location: string, inPlace: unknown[]): Copy {
    const entries = requireEntries(value, location);
    const isNameList = ([, item]: [string, unknown]) => Array.isArray(item);
    const required = Object.fromEntries(entries.filter(isNameList));
    this.#checkKeyword("dependentRequired", required, location);
    const schemas = entries
      .filter((entry) => !isNameList(entry))
      .map(([name, item]) => [name, this.#copySchema(item, `${location}/${escapePointer(name)}`)] as const);
    inPlace.push(...schemas.map(([, copy]) => copy));
    return { dependentRequired: required, dependentSchemas: Object.fromEntries(schemas) };
  }

  #checkKeyword(keyword: string, value: unknown, location: string): void {
    const rule = assertions[keyword];
    if (rule && !rule.isValid(value)) throw new InvalidSchemaError(location, rule.expectation);
    if (keyword === "pattern") this.#addPattern(value as string, location);
  }

  #addPattern(source: string, location: string): void {
    if (this.patterns.has(source)) return;
    if (!isPattern(source)) throw new InvalidSchemaError(location, "must have regular expressions as names");
    // Checked first, because compiling a large pattern is slow.
    this.#limitPatterns(estimatePatternSize(source), location);
    const pattern = compileLinearPattern(source);
    this.patterns.set(source, pattern);
    this.#instructions += PATTERN_COST + (pattern?.size ?? 0);
    this.#limitPatterns(0, location);
  }

  #limitPatterns(additionalInstructions: number, location: string): void {
    if (this.#instructions + additionalInstructions > PATTERN_INSTRUCTIONS_MAX)
      throw new InvalidSchemaError(location, "exceeds the limit for the total size of a schema's patterns");
  }

  #resolveReference(reference: unknown, location: string): string {
    if (typeof reference !== "string" || !reference.startsWith("#"))
      throw new InvalidSchemaError(
        location,
        "must refer to a place in the same schema (#…); external schemas are not fetched",
      );
    const target = this.#references.find(reference);
    if (!target) throw new InvalidSchemaError(location, "refers to a place that doesn't exist");
    if (target.value === this.#source) return "#";
    const knownName = this.#names.get(target.value);
    if (knownName !== undefined) return `#/$defs/${knownName}`;
    const name = String(this.#names.size);
    this.#names.set(target.value, name);
    this.#definitions[name] = this.#copySchema(target.value, target.pointer);
    return `#/$defs/${name}`;
  }

  /**
   * Limits how many schemas apply to one value. Circular references that don't descend into the value would never end. References
   * that branch at each step would take exponential time.
   */
  #limitSchemasPerValue(root: unknown): void {
    const sizes = new Map<object, number>();
    const schemasInProgress = new Set<object>();
    const resolve = (item: unknown) =>
      typeof item === "string" ? (item === "#" ? root : this.#definitions[item.slice("#/$defs/".length)]) : item;
    const countSchemas = (item: unknown): number => {
      const schema = resolve(item);
      if (typeof schema !== "object" || schema === null) return 1;
      const knownSize = sizes.get(schema);
      if (knownSize !== undefined) return knownSize;
      const { pointer = "#", schemas = [] } = this.#inPlace.get(schema) ?? {};
      if (schemasInProgress.has(schema)) throw new InvalidSchemaError(pointer, "refers to itself endlessly");
      schemasInProgress.add(schema);
      const size = schemas.reduce<number>((sum, inner) => sum + countSchemas(inner), 1);
      schemasInProgress.delete(schema);
      if (size > SCHEMAS_PER_VALUE_MAX)
        throw new InvalidSchemaError(pointer, `applies more than ${SCHEMAS_PER_VALUE_MAX} schemas to one value`);
      sizes.set(schema, size);
      return size;
    };
    for (const schema of this.#inPlace.keys()) countSchemas(schema);
  }
}

function requireEntries(value: unknown, location: string): [string, unknown][] {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new InvalidSchemaError(location, "must be an object");
  return Object.entries(value);
}

/** Number of UTF-16 code units of a list (such as `enum`) whose comparison costs one step. */
const CHARS_PER_STEP = 50;

const getComparisonCost = (value: unknown): number =>
  typeof value === "object" && value !== null ? Math.ceil(JSON.stringify(value).length / CHARS_PER_STEP) : 1;
