import { isJsonObject, type Json, type JsonObject } from "../lib/json.ts";
import { ownFormats } from "../lib/schema.ts";

/** Formats that Elysia adds to values it parses from strings; the actual type is another branch of the union. */
const coercedFormats = new Set(["integer", "numeric", "boolean", "ObjectString", "ArrayString", "date"]);
/** Keywords that OpenAPI 3.0 doesn't have, and those that are handled separately. */
const dropped = new Set(["$id", "$schema", "error", "examples", "const", "patternProperties", "documented"]);

/**
 * Collects named schemas (`title`, lib/schema.ts) while mapping others: each is listed once, and every use becomes a `$ref`.
 */
export class Components {
  readonly #schemas = new Map<string, JsonObject>();

  /** All collected schemas, sorted by name. */
  list(): JsonObject {
    const byName = ([a]: [string, JsonObject], [b]: [string, JsonObject]) => (a < b ? -1 : 1);
    return Object.fromEntries([...this.#schemas].sort(byName));
  }

  /**
   * Maps a TypeBox JSON Schema to the dialect of OpenAPI 3.0, recursively: no `const`, no type `null`, no
   * `patternProperties`, boolean exclusive bounds.
   * @param direction `out`: later versions of Parley may add fields to responses; `in`: requests must not have further fields.
   * @throws Error if two different schemas have the same name.
   */
  map(schema: Json, direction: "in" | "out"): Json {
    if (Array.isArray(schema)) return schema.map((part) => this.map(part, direction));
    if (!isJsonObject(schema)) return schema;
    if (typeof schema.title !== "string") return this.#mapHere(schema, direction);
    const { title, ...rest } = schema;
    this.#add(title, this.#mapHere(rest, direction) as JsonObject);
    return { $ref: `#/components/schemas/${title}` };
  }

  #add(name: string, schema: JsonObject): void {
    const known = this.#schemas.get(name);
    if (known && JSON.stringify(known) !== JSON.stringify(schema))
      throw new Error(`Two different schemas are named ${name}.`);
    this.#schemas.set(name, schema);
  }

  #mapHere(schema: JsonObject, direction: "in" | "out"): Json {
    if (schema.type === "null") return { type: "string", enum: [null], nullable: true };
    if (Array.isArray(schema.anyOf)) return this.#mapUnion(schema, schema.anyOf.filter(isJsonObject), direction);
    const mapped: JsonObject = {};
    for (const [key, value] of Object.entries(schema)) {
      if (dropped.has(key) || (key === "format" && ownFormats.has(value))) continue;
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
    const meant = branches.filter((branch) => branch.type !== "null" && !isCoerced(branch, branches));
    const rest = { ...outer, ...(isNullable && { nullable: true }) };
    const constants = meant.map((branch) => branch.const);
    if (constants.length > 0 && constants.every((constant) => typeof constant === "string"))
      return this.#mapHere({ ...rest, type: "string", enum: constants as string[] }, direction);
    if (constants.length > 0 && constants.every((constant) => typeof constant === "number"))
      return this.#mapHere({ ...rest, type: "number", enum: constants as number[] }, direction);
    const [only] = meant;
    // OpenAPI 3.0 ignores siblings of `$ref`, so it is wrapped in `allOf`; and `nullable` needs a `type`.
    if (meant.length === 1 && only?.title !== undefined)
      return { ...rest, type: only.type ?? "object", allOf: [this.map(only, direction)] };
    if (meant.length === 1 && only) return this.#mapHere({ ...only, ...rest }, direction);
    return {
      ...(this.#mapHere(rest, direction) as JsonObject),
      anyOf: meant.map((branch) => this.map(branch, direction)),
    };
  }
}

function isCoerced(branch: JsonObject, branches: JsonObject[]): boolean {
  return branches.length > 1 && branch.type === "string" && coercedFormats.has(String(branch.format));
}
