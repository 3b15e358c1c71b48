import { TOOL_NAME_CHARS_MAX, type Tool } from "../../../ai/provider.ts";
import type { WireTool } from "./connection.ts";
import { readSchema } from "./read-schema.ts";

/** OpenAI's limit for a description, in UTF-16 units; a longer one is cut. */
const DESCRIPTION_CHARS_MAX = 1_024;
/** Limits for one tool's schema and for all schemas of a server, because every answer pays for their tokens. */
const SCHEMA_CHARS_MAX = 16_384;
const SCHEMAS_CHARS_MAX = 131_072;
/** Characters of a schema as received; models get a reduced one. A longer schema isn't read at all. */
const WIRE_SCHEMA_CHARS_MAX = 2 * SCHEMA_CHARS_MAX;
const WIRE_NAME_CHARS_MAX = 256;
const TOO_LONG = `the schema has more than ${SCHEMA_CHARS_MAX} characters`;
/** Hexadecimal digits that distinguish tools whose cleaned names are equal. */
const SUFFIX_CHARS = 6;

export type ListedTool = Tool & { wire: WireTool };

/**
 * Reads a server's tools for models: named `server_name`, with invalid characters replaced. `problems` lists the tools that
 * can't be offered.
 */
export function readTools(server: string, listed: readonly unknown[]): { tools: ListedTool[]; problems: string[] } {
  const problems: string[] = [];
  const read: ListedTool[] = [];
  const seen = new Set<string>();
  let chars = 0;
  for (const value of listed) {
    const { name, description, inputSchema } = (value ?? {}) as Record<string, unknown>;
    if (typeof name !== "string" || name === "" || name.length > WIRE_NAME_CHARS_MAX || seen.has(name)) {
      problems.push("a tool's name is missing, too long or already taken");
      continue;
    }
    seen.add(name);
    try {
      if (sizeOf(inputSchema) > WIRE_SCHEMA_CHARS_MAX) throw new Error(TOO_LONG);
      const parameters = readSchema(inputSchema);
      const size = sizeOf(parameters);
      if (size > SCHEMA_CHARS_MAX) throw new Error(TOO_LONG);
      if (chars + size > SCHEMAS_CHARS_MAX)
        throw new Error(`all schemas together have more than ${SCHEMAS_CHARS_MAX} characters`);
      chars += size;
      const wire = { name, inputSchema: inputSchema as Record<string, unknown> };
      read.push({ name: cleanName(server, name), description: cutDescription(description), parameters, wire });
    } catch (error) {
      problems.push(`${JSON.stringify(name.slice(0, TOOL_NAME_CHARS_MAX))}: ${(error as Error).message}`);
    }
  }
  return { tools: separate(server, read), problems };
}

/** Prefixed with the server's name, because two servers may have tools with the same name. */
const cleanName = (server: string, name: string): string =>
  `${server}_${name}`.replace(/[^\w-]/g, "_").slice(0, TOOL_NAME_CHARS_MAX);

/** Adds part of a hash to equal names, independent of their order: a name must never refer to another tool later. */
function separate(server: string, tools: readonly ListedTool[]): ListedTool[] {
  const counts = new Map<string, number>();
  for (const { name } of tools) counts.set(name, (counts.get(name) ?? 0) + 1);
  return tools.map((tool) => {
    const isAlone = counts.get(tool.name) === 1 || tool.name === `${server}_${tool.wire.name}`;
    if (isAlone) return tool;
    const suffix = new Bun.CryptoHasher("sha256").update(tool.wire.name).digest("hex").slice(0, SUFFIX_CHARS);
    return { ...tool, name: `${tool.name.slice(0, TOOL_NAME_CHARS_MAX - SUFFIX_CHARS - 1)}_${suffix}` };
  });
}

function cutDescription(description: unknown): string | null {
  if (typeof description !== "string" || description === "") return null;
  if (description.length <= DESCRIPTION_CHARS_MAX) return description.toWellFormed();
  return `${description.slice(0, DESCRIPTION_CHARS_MAX - 1)}…`.toWellFormed();
}

/** UTF-16 units of its JSON. */
const sizeOf = (schema: unknown): number => JSON.stringify(schema)?.length ?? 0;
