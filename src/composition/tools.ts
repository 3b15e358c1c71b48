import { listMcpServers } from "../config/mcp.ts";
import { propagateTrace } from "../lib/tracing/propagate-trace.ts";
import type { DocumentService } from "../modules/documents/service.ts";
import { createMcpServers } from "../modules/tools/mcp/servers.ts";
import { findToolUser } from "../modules/tools/queries.ts";
import { createDocumentSearchTool } from "../modules/tools/search-documents.ts";
import { createToolService, type ToolService } from "../modules/tools/service.ts";
import type { Core } from "./core.ts";

/** Creates the service for the tools that models can call: the built-in one and those of MCP servers. */
export function createToolServices(
  { database, config, fetch, log, components, tracing }: Core,
  { searchPassages }: Pick<DocumentService, "searchPassages">,
): ToolService {
  const builtIn = [createDocumentSearchTool(searchPassages)];
  const mcpServers = createMcpServers({
    settings: listMcpServers(config),
    issuer: config.PUBLIC_URL?.replace(/\/+$/, "") ?? "parley",
    findUser: (userId) => findToolUser(database, userId),
    fetch: tracing ? propagateTrace(fetch, tracing) : fetch,
    log,
  });
  components.add({ name: "mcp", after: ["generations", "completions"], stop: mcpServers.close });
  mcpServers.preloadTools();
  return createToolService({
    listTools: async (request) => [...builtIn, ...(await mcpServers.listTools(request))],
    log,
    tracing,
  });
}
