import type { Log } from "../../lib/log.ts";
import { createMcpServer } from "./mcp-server.ts";
import type { RunnableTool } from "./model.ts";

/** The servers of the setting `MCP_SERVERS`, each as `name=url`. */
export function createMcpServers(settings: readonly string[], log: Log) {
  const servers = settings.map((setting) => {
    const equals = setting.indexOf("=");
    return createMcpServer({ name: setting.slice(0, equals), url: setting.slice(equals + 1), log });
  });

  return {
    listTools: async (): Promise<RunnableTool[]> =>
      (await Promise.all(servers.map((server) => server.listTools()))).flat(),

    async close(): Promise<void> {
      await Promise.all(servers.map((server) => server.close()));
    },
  };
}
