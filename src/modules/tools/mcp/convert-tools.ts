import { TOOL_NAME_CHARS_MAX, type Tool } from "../../../ai/provider.ts";
import type { WireTool } from "./connection.ts";
import { convertSchema } from "./convert-schema.ts";

/** OpenAI's maximum length of a description, in UTF-16 code units. Longer descriptions are truncated. */
const DESCRIPTION_CHARS_MAX = 1_024;
/** Maximum length of a tool's schema as JSON, because its tokens are charged for every answer. */
const SCHEMA_CHARS_MAX = 16_384;
/** Maximum length of all of a server's schemas as JSON. */
const SCHEMAS_CHARS_MAX = 131_072;
/** Maximum length of a schema from the server, before it is converted for models. */
const WIRE_SCHEMA_CHARS_MAX = 2 * SCHEMA_CHARS_MAX;
const WIRE_NAME_CHARS_MAX = 256;
const schemaTooLong = `the schema has more than ${SCHEMA_CHARS_MAX} characters`;
/** Length of the hexadecimal suffix that distinguishes tools with the same name. */
const SUFFIX_CHARS = 6;

export type ListedTool = Tool & { original: WireTool };

/**
 * Converts a server's tools for models. Each tool is named `server_tool`, with invalid characters replaced. `problems` describes the
 * tools that can't be used.
 */
export function convertTools(
  server: string,
  serverTools: readonly unknown[],
): { tools: ListedTool[]; problems: string[] } {
  const problems: string[] = [];
  const convertedTools: ListedTool[] = [];
  const seenNames = new Set<string>();
  let totalChars = 0;
  for (const value of serverTools) {
    const { name, description, inputSchema } = (value ?? {}) as Record<string, unknown>;
    if (typeof name !== "string" || name === "" || name.length > WIRE_NAME_CHARS_MAX || seenNames.has(name)) {
      problems.push("a tool's name is missing, too long or already taken");
      continue;
    }
    seenNames.add(name);
    try {
      if (measureSchema(inputSchema) > WIRE_SCHEMA_CHARS_MAX) throw new Error(schemaTooLong);
      const parameters = convertSchema(inputSchema);
      const schemaChars = measureSchema(parameters);
      if (schemaChars > SCHEMA_CHARS_MAX) throw new Error(schemaTooLong);
      if (totalChars + schemaChars > SCHEMAS_CHARS_MAX)
        throw new Error(`all schemas together have more than ${SCHEMAS_CHARS_MAX} characters`);
      totalChars += schemaChars;
      convertedTools.push({
        name: createToolName(server, name),
        description: truncateDescription(description),
        parameters,
        original: { name, inputSchema: inputSchema as Record<string, unknown> },
      });
    } catch (error) {
      problems.push(`${JSON.stringify(name.slice(0, TOOL_NAME_CHARS_MAX))}: ${(error as Error).message}`);
    }
  }
  return { tools: makeNamesUnique(server, convertedTools), problems };
}

/** Creates a tool's name for models, with the server's name as prefix, because two servers may have tools with the same name. */
const createToolName = (server: string, name: string): string =>
  `${server}_${name}`.replace(/[^\w-]/g, "_").slice(0, TOOL_NAME_CHARS_MAX);

/**
 * Appends part of a hash to names that several tools have. The hash doesn't depend on the order of the tools, so a name always refers
 * to the same tool.
 */
function makeNamesUnique(server: string, tools: readonly ListedTool[]): ListedTool[] {
  const counts = new Map<string, number>();
  for (const { name } of tools) counts.set(name, (counts.get(name) ?? 0) + 1);
  return tools.map((tool) => {
    const isUnique = counts.get(tool.name) === 1 || tool.name === `${server}_${tool.original.name}`;
    if (isUnique) return tool;
    const suffix = new Bun.CryptoHasher("sha256").update(tool.original.name).digest("hex").slice(0, SUFFIX_CHARS);
    return { ...tool, name: `${tool.name.slice(0, TOOL_NAME_CHARS_MAX - SUFFIX_CHARS - 1)}_${suffix}` };
  });
}

function truncateDescription(description: unknown): string | null {
  if (typeof description !== "string" || description === "") return null;
  if (description.length <= DESCRIPTION_CHARS_MAX) return description.toWellFormed();
  return `${description.slice(0, DESCRIPTION_CHARS_MAX - 1)}…`.toWellFormed();
}

/** Returns the length of a schema as JSON, in UTF-16 code units. */
const measureSchema = (schema: unknown): number => JSON.stringify(schema)?.length ?? 0;
