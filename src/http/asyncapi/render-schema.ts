import { escapeHtml } from "../../lib/html.ts";
import { isJsonObject, type Json, type JsonObject } from "../../lib/json.ts";

/** Renders text with code in backticks as HTML. */
export const renderText = (text: string): string => escapeHtml(text).replaceAll(/`([^`]+)`/g, "<code>$1</code>");

const getRefName = (ref: string): string => ref.split("/").at(-1) ?? "";

/** Renders an object schema as a table of its fields, and any other schema as its type. */
export function renderSchema(schema: JsonObject): string {
  if (!isJsonObject(schema.properties)) return `<p>${renderType(schema)}</p>`;
  const required = Array.isArray(schema.required) ? schema.required : [];
  const rows = Object.entries(schema.properties).map(([name, field]) =>
    renderField(name, field, required.includes(name)),
  );
  if (rows.length === 0) return "<p>No fields.</p>";
  return `<div class="wide" tabindex="0"><table>
<thead><tr><th scope="col">field</th><th scope="col">type</th><th scope="col">meaning</th></tr></thead>
<tbody>
${rows.join("\n")}
</tbody>
</table></div>`;
}

function renderField(name: string, field: Json, isRequired: boolean): string {
  const schema = isJsonObject(field) ? field : {};
  const description = typeof schema.description === "string" ? renderText(schema.description) : "";
  const presence = isRequired ? "" : ' <span class="note">optional</span>';
  return `<tr><th scope="row"><code>${escapeHtml(name)}</code>${presence}</th><td>${renderType(schema)}</td><td>${description}</td></tr>`;
}

/** Renders a type with its limits and with links to other schemas. */
function renderType(schema: Json): string {
  if (!isJsonObject(schema)) return "anything";
  if (typeof schema.$ref === "string") {
    const name = getRefName(schema.$ref);
    return `<a href="#schema-${escapeHtml(name)}">${escapeHtml(name)}</a>`;
  }
  if ("const" in schema) return renderValue(schema.const ?? null);
  if (Array.isArray(schema.enum)) return schema.enum.map(renderValue).join(" | ");
  if (Array.isArray(schema.anyOf)) return schema.anyOf.map(renderType).join(" or ");
  if (schema.type === "array") return `list of ${renderType(schema.items ?? {})}${renderBounds(schema, "Items", "")}`;
  if (schema.type === "object") return renderObject(schema);
  if (typeof schema.type !== "string") return "anything";
  const format = typeof schema.format === "string" ? ` (${escapeHtml(schema.format)})` : "";
  const bounds = renderBounds(schema, "Length", " characters") || renderRange(schema);
  return `${escapeHtml(schema.type)}${format}${bounds}`;
}

/** Renders an unnamed object schema: its fields or the type of its values. */
function renderObject({ properties, additionalProperties }: JsonObject): string {
  if (isJsonObject(properties)) {
    const fields = Object.entries(properties).map(
      ([name, field]) => `<code>${escapeHtml(name)}</code>: ${renderType(field)}`,
    );
    return `object with ${fields.join(", ")}`;
  }
  const isAny = !isJsonObject(additionalProperties) || Object.keys(additionalProperties).length === 0;
  return isAny ? "object" : `object of ${renderType(additionalProperties)}`;
}

const renderValue = (value: Json): string => `<code>${escapeHtml(JSON.stringify(value))}</code>`;

function renderBounds(schema: JsonObject, suffix: "Length" | "Items", unit: string): string {
  const [min, max] = [schema[`min${suffix}`], schema[`max${suffix}`]];
  if (typeof max !== "number") return "";
  const from = typeof min === "number" && min > 0 ? `${min} to ` : "at most ";
  return `, ${from}${max.toLocaleString("en")}${unit}`;
}

function renderRange({ minimum, maximum }: JsonObject): string {
  const isBounded = typeof maximum === "number" && maximum !== Number.MAX_SAFE_INTEGER;
  if (typeof minimum === "number") return isBounded ? `, ${minimum} to ${maximum}` : `, at least ${minimum}`;
  return isBounded ? `, at most ${maximum}` : "";
}
