import type { Config } from "../../config.ts";
import type { Log } from "../../lib/log.ts";
import { createMcpServer } from "./mcp-server.ts";
import type { RunnableTool } from "./model.ts";

/** The servers of the setting `MCP_SERVERS`, each as `name=url`. */
export interface McpServers {
  /** The tools of all servers that answer. */
  listTools(): Promise<RunnableTool[]>;
  close(): Promise<void>;
}

type Dependencies = { config: Pick<Config, "MCP_SERVERS">; log: Log };

export function createMcpServers({ config, log }: Dependencies): McpServers {
  const servers = config.MCP_SERVERS.map((setting) => {
    const equals = setting.indexOf("=");
    return createMcpServer({ name: setting.slice(0, equals), url: setting.slice(equals + 1), log });
  });

  return {
    listTools: async () => (await Promise.all(servers.map((server) => server.listTools()))).flat(),

    async close() {
      await Promise.all(servers.map((server) => server.close()));
    },
  };
}
