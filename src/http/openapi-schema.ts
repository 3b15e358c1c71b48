import { isJsonObject, type Json, type JsonObject } from "../lib/json.ts";
import { customFormats } from "../lib/schema.ts";

/** Formats of the string branches that Elysia adds to a union for values parsed from strings. */
const coercedFormats = new Set(["integer", "numeric", "boolean", "ObjectString", "ArrayString", "date"]);
/** Keywords that OpenAPI 3.0 doesn't support, and those that are mapped separately. */
const droppedKeywords = new Set(["$id", "$schema", "error", "examples", "const", "patternProperties", "documented"]);

/**
 * Maps schemas and collects the named schemas, which have a `title` (lib/schema.ts). Each use of a named schema becomes a `$ref`.
 */
export class Components {
  readonly #schemas = new Map<string, JsonObject>();

  /** Returns all collected schemas, sorted by name. */
  list(): JsonObject {
    const byName = ([a]: [string, JsonObject], [b]: [string, JsonObject]) => (a < b ? -1 : 1);
    return Object.fromEntries([...this.#schemas].sort(byName));
  }

  /**
   * Maps a JSON Schema from TypeBox to OpenAPI 3.0, which has no `const`, no type `null`, no `patternProperties`, and only
   * boolean exclusive bounds.
   * @param direction `in` for requests, `out` for responses. Responses may have additional fields, because later versions of
   * Parley may add some.
   * @throws Error if two different schemas have the same name.
   */
  map(schema: Json, direction: "in" | "out"): Json {
    if (Array.isArray(schema)) return schema.map((part) => this.map(part, direction));
    if (!isJsonObject(schema)) return schema;
    if (typeof schema.title !== "string") return this.#mapUnnamed(schema, direction);
    const { title, ...rest } = schema;
    this.#add(title, this.#mapUnnamed(rest, direction) as JsonObject);
    return { $ref: `#/components/schemas/${title}` };
  }

  #add(name: string, schema: JsonObject): void {
    const existingSchema = this.#schemas.get(name);
    if (existingSchema && JSON.stringify(existingSchema) !== JSON.stringify(schema))
      throw new Error(`Two different schemas are named ${name}.`);
    this.#schemas.set(name, schema);
  }

  #mapUnnamed(schema: JsonObject, direction: "in" | "out"): Json {
    if (schema.type === "null") return { type: "string", enum: [null], nullable: true };
    if (Array.isArray(schema.anyOf)) return this.#mapUnion(schema, schema.anyOf.filter(isJsonObject), direction);
    const mapped: JsonObject = {};
    for (const [key, value] of Object.entries(schema)) {
      if (droppedKeywords.has(key) || (key === "format" && customFormats.has(value))) continue;
      if (key === "additionalProperties" && value === false && direction === "out") continue;
      if (key === "maximum" && value === Number.MAX_SAFE_INTEGER) continue;
      if (key === "properties" && isJsonObject(value))
        mapped.properties = Object.fromEntries(
          Object.entries(value).map(([name, property]) => [name, this.map(property, direction)]),
        );
      else mapped[key] = key === "enum" || key === "default" || key === "example" ? value : this.map(value, direction);
    }
    if (schema.const !== undefined) mapped.enum = [schema.const];
    if (isJsonObject(schema.documented)) Object.assign(mapped, schema.documented);
    if (Array.isArray(schema.examples) && schema.examples[0] !== undefined) mapped.example = schema.examples[0];
    if (isJsonObject(schema.patternProperties))
      mapped.additionalProperties = this.map(Object.values(schema.patternProperties)[0] ?? {}, direction);
    for (const [exclusive, bound] of [
      ["exclusiveMinimum", "minimum"],
      ["exclusiveMaximum", "maximum"],
    ] as const)
      if (typeof schema[exclusive] === "number")
        Object.assign(mapped, { [bound]: schema[exclusive], [exclusive]: true });
    return mapped;
  }

  #mapUnion(schema: JsonObject, branches: JsonObject[], direction: "in" | "out"): Json {
    const { anyOf: _, ...outer } = schema;
    const isNullable = branches.some(({ type }) => type === "null");
    const actualBranches = branches.filter((branch) => branch.type !== "null" && !isCoerced(branch, branches));
    const outerFields = { ...outer, ...(isNullable && { nullable: true }) };
    const constants = actualBranches.map((branch) => branch.const);
    if (constants.length > 0 && constants.every((constant) => typeof constant === "string"))
      return this.#mapUnnamed({ ...outerFields, type: "string", enum: constants as string[] }, direction);
    if (constants.length > 0 && constants.every((constant) => typeof constant === "number"))
      return this.#mapUnnamed({ ...outerFields, type: "number", enum: constants as number[] }, direction);
    const [onlyBranch] = actualBranches;
    // OpenAPI 3.0 ignores siblings of `$ref`, so the `$ref` is wrapped in `allOf`. `nullable` requires a `type`.
    if (actualBranches.length === 1 && onlyBranch?.title !== undefined)
      return { ...outerFields, type: onlyBranch.type ?? "object", allOf: [this.map(onlyBranch, direction)] };
    if (actualBranches.length === 1 && onlyBranch)
      return this.#mapUnnamed({ ...onlyBranch, ...outerFields }, direction);
    return {
      ...(this.#mapUnnamed(outerFields, direction) as JsonObject),
      anyOf: actualBranches.map((branch) => this.map(branch, direction)),
    };
  }
}

function isCoerced(branch: JsonObject, branches: JsonObject[]): boolean {
  return branches.length > 1 && branch.type === "string" && coercedFormats.has(String(branch.format));
}
