import type { McpServerSetting } from "../../../config/mcp.ts";
import type { RunnableTool, ToolRequest } from "../model.ts";
import { createMcpServer, type McpServerOptions } from "./server.ts";

/** The servers in MCP_SERVERS. */
export interface McpServers {
  /** Lists the tools of the servers that an answer may use. Sends no requests to other servers. Never rejects. */
  listTools(request: ToolRequest): Promise<RunnableTool[]>;
  /** Loads the servers' tools at startup. */
  preloadTools(): void;
  close(): Promise<void>;
}

type Dependencies = Omit<McpServerOptions, "setting"> & { settings: readonly McpServerSetting[] };

export function createMcpServers({ settings, ...options }: Dependencies): McpServers {
  const servers = settings.map((setting) => createMcpServer({ ...options, setting }));

  return {
    async listTools({ selection, ...request }) {
      // A tool's name starts with its server's name, which contains no underscore.
      const isSelected = (server: string) =>
        Array.isArray(selection) ? selection.some((name) => name.startsWith(`${server}_`)) : selection === true;
      const lists = servers.filter(({ name }) => isSelected(name)).map((server) => server.listTools(request));
      return (await Promise.all(lists)).flat();
    },

    preloadTools() {
      for (const server of servers) server.preloadTools();
    },

    async close() {
      await Promise.all(servers.map((server) => server.close()));
    },
  };
}
