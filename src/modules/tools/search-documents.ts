import type { PassageMatch } from "../documents/service.ts";
import { type RunnableTool, ToolError } from "./model.ts";

const PASSAGES_DEFAULT = 5;
const PASSAGES_MAX = 10;

/** Creates the built-in tool that searches the Markdown documents, which every user may read. */
export function createDocumentSearchTool(
  searchPassages: (question: string, limit: number) => Promise<PassageMatch[]>,
): RunnableTool {
  return {
    name: "search_documents",
    description:
      "Searches this server's markdown documents and returns the best matching passages, each with its path.",
    parameters: {
      type: "object",
      properties: {
        query: { type: "string", description: "What to look for: words or a question." },
        limit: { type: "integer", minimum: 1, maximum: PASSAGES_MAX, description: "How many passages to return." },
      },
      required: ["query"],
      additionalProperties: false,
    },
    async run({ query, limit = PASSAGES_DEFAULT }) {
      if (typeof query !== "string" || query.trim() === "") throw new ToolError("`query` must be a non-empty string.");
      if (typeof limit !== "number" || !(limit >= 1 && limit <= PASSAGES_MAX))
        throw new ToolError(`\`limit\` must be a number from 1 to ${PASSAGES_MAX}.`);
      const passages = await searchPassages(query, Math.floor(limit));
      return JSON.stringify({
        passages: passages.map(({ path, title, heading, snippet }) => ({ path, title, heading, text: snippet })),
      });
    },
  };
}
