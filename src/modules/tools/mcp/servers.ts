import type { McpServerSetting } from "../../../config/mcp.ts";
import type { RunnableTool, ToolRequest } from "../model.ts";
import { createMcpServer, type McpServerOptions } from "./server.ts";

/** The MCP servers in the setting `MCP_SERVERS`. */
export interface McpServers {
  /** Lists the tools of the servers that an answer may use. Other servers aren't contacted. Never rejects. */
  listTools(request: ToolRequest): Promise<RunnableTool[]>;
  /** Loads the servers' tools before the first answer needs them. */
  start(): void;
  close(): Promise<void>;
}

type Dependencies = Omit<McpServerOptions, "setting"> & { settings: readonly McpServerSetting[] };

export function createMcpServers({ settings, ...options }: Dependencies): McpServers {
  const servers = settings.map((setting) => createMcpServer({ ...options, setting }));

  return {
    async listTools({ selection, ...request }) {
      // A tool's name starts with its server's name, which contains no underscore.
      const isChosen = (server: string) =>
        Array.isArray(selection) ? selection.some((name) => name.startsWith(`${server}_`)) : selection === true;
      const lists = servers.filter(({ name }) => isChosen(name)).map((server) => server.listTools(request));
      return (await Promise.all(lists)).flat();
    },

    start() {
      for (const server of servers) server.start();
    },

    async close() {
      await Promise.all(servers.map((server) => server.close()));
    },
  };
}
