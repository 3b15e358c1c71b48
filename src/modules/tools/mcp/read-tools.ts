import { TOOL_NAME_CHARS_MAX, type Tool } from "../../../ai/provider.ts";
import type { WireTool } from "./connection.ts";
import { readSchema } from "./read-schema.ts";

/** OpenAI's limit for a description, in UTF-16 units. Longer ones are truncated. */
const DESCRIPTION_CHARS_MAX = 1_024;
/** Limits for one tool's schema and for all schemas of a server, because their tokens are charged for every answer. */
const SCHEMA_CHARS_MAX = 16_384;
const SCHEMAS_CHARS_MAX = 131_072;
/** Limit for a schema as received from the server, before it is reduced for models. A longer one isn't read at all. */
const WIRE_SCHEMA_CHARS_MAX = 2 * SCHEMA_CHARS_MAX;
const WIRE_NAME_CHARS_MAX = 256;
const TOO_LONG = `the schema has more than ${SCHEMA_CHARS_MAX} characters`;
/** Length of the hexadecimal suffix that distinguishes tools whose names would otherwise be equal. */
const SUFFIX_CHARS = 6;

export type ListedTool = Tool & { wire: WireTool };

/**
 * Converts a server's tools for models. Each is named `server_tool`, with invalid characters replaced. `problems`
 * describes the tools that can't be offered.
 */
export function readTools(server: string, listed: readonly unknown[]): { tools: ListedTool[]; problems: string[] } {
  const problems: string[] = [];
  const read: ListedTool[] = [];
  const seenNames = new Set<string>();
  let totalChars = 0;
  for (const value of listed) {
    const { name, description, inputSchema } = (value ?? {}) as Record<string, unknown>;
    if (typeof name !== "string" || name === "" || name.length > WIRE_NAME_CHARS_MAX || seenNames.has(name)) {
      problems.push("a tool's name is missing, too long or already taken");
      continue;
    }
    seenNames.add(name);
    try {
      if (sizeOf(inputSchema) > WIRE_SCHEMA_CHARS_MAX) throw new Error(TOO_LONG);
      const parameters = readSchema(inputSchema);
      const size = sizeOf(parameters);
      if (size > SCHEMA_CHARS_MAX) throw new Error(TOO_LONG);
      if (totalChars + size > SCHEMAS_CHARS_MAX)
        throw new Error(`all schemas together have more than ${SCHEMAS_CHARS_MAX} characters`);
      totalChars += size;
      const wire = { name, inputSchema: inputSchema as Record<string, unknown> };
      read.push({
        name: createToolName(server, name),
        description: truncateDescription(description),
        parameters,
        wire,
      });
    } catch (error) {
      problems.push(`${JSON.stringify(name.slice(0, TOOL_NAME_CHARS_MAX))}: ${(error as Error).message}`);
    }
  }
  return { tools: makeNamesUnique(server, read), problems };
}

/** Prefixed with the server's name, because two servers may have tools with the same name. */
const createToolName = (server: string, name: string): string =>
  `${server}_${name}`.replace(/[^\w-]/g, "_").slice(0, TOOL_NAME_CHARS_MAX);

/**
 * Adds part of a hash to equal names. It doesn't depend on their order, because a name must never refer to a different
 * tool later.
 */
function makeNamesUnique(server: string, tools: readonly ListedTool[]): ListedTool[] {
  const counts = new Map<string, number>();
  for (const { name } of tools) counts.set(name, (counts.get(name) ?? 0) + 1);
  return tools.map((tool) => {
    const isUnique = counts.get(tool.name) === 1 || tool.name === `${server}_${tool.wire.name}`;
    if (isUnique) return tool;
    const suffix = new Bun.CryptoHasher("sha256").update(tool.wire.name).digest("hex").slice(0, SUFFIX_CHARS);
    return { ...tool, name: `${tool.name.slice(0, TOOL_NAME_CHARS_MAX - SUFFIX_CHARS - 1)}_${suffix}` };
  });
}

function truncateDescription(description: unknown): string | null {
  if (typeof description !== "string" || description === "") return null;
  if (description.length <= DESCRIPTION_CHARS_MAX) return description.toWellFormed();
  return `${description.slice(0, DESCRIPTION_CHARS_MAX - 1)}…`.toWellFormed();
}

/** Returns the length of a schema as JSON, in UTF-16 units. */
const sizeOf = (schema: unknown): number => JSON.stringify(schema)?.length ?? 0;
