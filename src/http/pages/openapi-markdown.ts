import { isJsonObject, type Json, type JsonObject } from "../../lib/json.ts";
import { describeType, listFields, listItem, toLine } from "./schema-markdown.ts";

const toObject = (value: Json | undefined): JsonObject => (isJsonObject(value) ? value : {});
const toList = (value: Json | undefined): Json[] => (Array.isArray(value) ? value : []);
const joinParts = (parts: string[]): string => parts.filter((part) => part !== "").join("\n");

/** Renders an OpenAPI document as Markdown: the operations by tag, then the named schemas. */
export function renderOpenApiMarkdown(document: JsonObject): string {
  const components = toObject(document.components);
  const operations = Object.entries(toObject(document.paths)).flatMap(([path, methods]) =>
    Object.entries(toObject(methods)).map(([method, operation]) => ({
      title: `${method.toUpperCase()} ${path}`,
      operation: toObject(operation),
    })),
  );
  const tags = toList(document.tags).map((tag) => {
    const { name, description } = toObject(tag);
    const tagOperations = operations.filter(({ operation }) => toList(operation.tags).includes(name ?? null));
    const parts = tagOperations.map(({ title, operation }) => renderOperation(title, operation, components));
    return joinParts([`## ${toLine(name)}\n`, `${toLine(description)}\n`, ...parts]);
  });
  const schemas = Object.entries(toObject(components.schemas)).map(([name, value]) => {
    const schema = toObject(value);
    const description = toLine(schema.description);
    return `### ${name}\n\n${description === "" ? "" : `${description}\n\n`}${listFields(schema)}`;
  });
  const info = toObject(document.info);
  return `${joinParts([
    `# ${toLine(info.title)} REST API ${toLine(info.version)}\n`,
    toLine(info.description) === "" ? "" : `${String(info.description).trim()}\n`,
    "JSON version: `/swagger/json` (OpenAPI). Errors have the schema `Problem`. `/problems.md` explains every code.\n",
    ...tags,
    "## Schemas\n",
    ...schemas,
  ]).trimEnd()}\n`;
}

function renderOperation(title: string, operation: JsonObject, components: JsonObject): string {
  const resolve = (kind: string, value: Json): JsonObject => {
    const { $ref } = toObject(value);
    return typeof $ref === "string"
      ? toObject(toObject(components[kind])[$ref.split("/").at(-1) ?? ""])
      : toObject(value);
  };
  const parameters = toList(operation.parameters).map((value) => {
    const { name, in: location, required, schema, description } = resolve("parameters", value);
    const presence = required === true ? "required" : "optional";
    return listItem(`\`${toLine(name)}\``, `${toLine(location)}, ${describeType(schema)}, ${presence}`, description);
  });
  const body = Object.entries(toObject(toObject(operation.requestBody).content)).map(
    ([type, media]) => `- \`${type}\`: ${describeType(toObject(media).schema)}\n`,
  );
  const responses = Object.entries(toObject(operation.responses));
  const successes = responses
    .filter(([status]) => Number(status) < 400)
    .map(([status, value]) => {
      const content = Object.entries(toObject(resolve("responses", value).content));
      const types = content.map(([type, media]) => `${describeType(toObject(media).schema)} as \`${type}\``);
      return `- ${status}${types.length === 0 ? "" : `: ${types.join("; ")}`}\n`;
    });
  const errors = responses.filter(([status]) => Number(status) >= 400).map(([status]) => status);
  return joinParts([
    `### ${title}\n`,
    `${toLine(operation.summary)}.\n`,
    toLine(operation.description) === "" ? "" : `${toLine(operation.description)}\n`,
    `${describeAccess(operation)}\n`,
    parameters.length === 0 ? "" : `Parameters:\n\n${parameters.join("")}`,
    body.length === 0 ? "" : `Body:\n\n${body.join("")}`,
    `Responses:\n\n${successes.join("")}${errors.length === 0 ? "" : `- Errors: ${errors.join(", ")}\n`}`,
  ]);
}

function describeAccess(operation: JsonObject): string {
  if (toList(operation.security).length === 0) return "Public.";
  const scope = toLine(operation["x-scope"]);
  return `Requires authentication.${scope === "" || scope === "any" ? "" : ` An API key needs the scope \`${scope}\`.`}`;
}
