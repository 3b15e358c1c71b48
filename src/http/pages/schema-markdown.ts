import { isJsonObject, type Json, type JsonObject } from "../../lib/json.ts";

const getRefName = (ref: string): string => ref.split("/").at(-1) ?? "";
const quote = (value: Json): string => `\`${JSON.stringify(value)}\``;

/** Joins the lines of text, so that it fits in a list item or heading. */
export const toLine = (text: Json | undefined): string =>
  typeof text === "string" ? text.replaceAll(/\s+/g, " ").trim() : "";

/** Describes a type in words. A named schema is shown as its name in code. */
export function describeType(schema: Json | undefined): string {
  if (!isJsonObject(schema)) return "anything";
  const type = describeNonNull(schema);
  return schema.nullable === true && type !== "null" ? `${type} or null` : type;
}

function describeNonNull(schema: JsonObject): string {
  if (typeof schema.$ref === "string") return `\`${getRefName(schema.$ref)}\``;
  if (Array.isArray(schema.allOf)) return schema.allOf.map(describeType).join(" and ");
  const choices = schema.anyOf ?? schema.oneOf;
  if (Array.isArray(choices)) return choices.map(describeType).join(" or ");
  if ("const" in schema) return quote(schema.const ?? null);
  if (Array.isArray(schema.enum)) return schema.enum.map(quote).join(" or ");
  if (schema.type === "array") return `list of ${describeType(schema.items)}${describeBounds(schema, "Items", "")}`;
  if (schema.type === "object") return describeObject(schema);
  if (typeof schema.type !== "string") return "anything";
  const format = typeof schema.format === "string" ? ` (${schema.format})` : "";
  return `${schema.type}${format}${describeBounds(schema, "Length", " characters")}${describeRange(schema)}${describeDefault(schema)}`;
}

function describeObject({ properties, additionalProperties }: JsonObject): string {
  if (isJsonObject(properties) && Object.keys(properties).length > 0) {
    const fields = Object.entries(properties).map(([name, field]) => `\`${name}\`: ${describeType(field)}`);
    return `object with ${fields.join(", ")}`;
  }
  const isAny = !isJsonObject(additionalProperties) || Object.keys(additionalProperties).length === 0;
  return isAny ? "object" : `object of ${describeType(additionalProperties)}`;
}

function describeBounds(schema: JsonObject, suffix: "Length" | "Items", unit: string): string {
  const [min, max] = [schema[`min${suffix}`], schema[`max${suffix}`]];
  if (typeof max !== "number") return "";
  return `, ${typeof min === "number" && min > 0 ? `${min} to` : "at most"} ${max}${unit}`;
}

function describeRange({ minimum, maximum }: JsonObject): string {
  const isBounded = typeof maximum === "number" && maximum !== Number.MAX_SAFE_INTEGER;
  if (typeof minimum === "number") return isBounded ? `, ${minimum} to ${maximum}` : `, at least ${minimum}`;
  return isBounded ? `, at most ${maximum}` : "";
}

const describeDefault = ({ default: value }: JsonObject): string =>
  value === undefined ? "" : `, default ${quote(value)}`;

/** Formats an object schema as a list of its fields, and any other schema as its type. */
export function listFields(schema: JsonObject): string {
  if (!isJsonObject(schema.properties)) return `${describeType(schema)}\n`;
  const required = Array.isArray(schema.required) ? schema.required : [];
  const fields = Object.entries(schema.properties).map(([name, field]) => {
    const note = required.includes(name) ? "" : ", optional";
    return listItem(`\`${name}\``, `${describeType(field)}${note}`, isJsonObject(field) ? field.description : "");
  });
  return fields.length === 0 ? "No fields.\n" : fields.join("");
}

/** Formats a list item: `- name (kind): text`. */
export function listItem(name: string, kind: string, text: Json | undefined): string {
  const line = toLine(text);
  return `- ${name} (${kind})${line === "" ? "" : `: ${line}`}\n`;
}
