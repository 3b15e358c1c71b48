import { type McpServerSetting, readMcpServers } from "../../config/mcp.ts";
import { abortable } from "../../lib/abortable.ts";
import { maskSecretAddress } from "../../lib/mask-address.ts";
import { readUserinfo } from "../../lib/userinfo.ts";
import { createBoundedFetch } from "../../modules/tools/mcp/bounded-fetch.ts";
import { createConnection } from "../../modules/tools/mcp/connection.ts";
import { describeError, isUserRejected } from "../../modules/tools/mcp/describe-error.ts";
import { formatQuantity } from "../selftest/figures.ts";
import { type DoctorCheck, type DoctorContext, REQUEST_TIMEOUT_MS } from "./check.ts";
import { readDateHeader } from "./clock-reading.ts";
import { type Finding, ok, problem, skipped, warning } from "./finding.ts";

export const mcpCheck: DoctorCheck = {
  name: "mcp",
  async find(context) {
    const servers = readMcpServers(context.config);
    if (servers.length === 0) return [skipped("MCP_SERVERS is not set.")];
    if (context.isOffline) return [skipped("--offline: the MCP servers are not called.")];
    return await Promise.all(servers.map((server) => examineMcpServer(server, context)));
  },
};

/** Lists the tools of a server in a session of its own, which it ends. */
async function examineMcpServer(server: McpServerSetting, context: DoctorContext): Promise<Finding> {
  const { name, url, headers, identitySecret } = server;
  const named = `MCP server ${name} (${maskSecretAddress(url)})`;
  const userinfo = readUserinfo(url);
  const fetch = createBoundedFetch({
    fetch: async (address, init) => {
      const sentAtMs = Date.now();
      const response = await context.fetch(address, init);
      const reading = readDateHeader(new URL(address).host, response.headers, sentAtMs);
      if (reading) context.clockReadings.push(reading);
      return response;
    },
    timeoutMs: REQUEST_TIMEOUT_MS,
    hasStreams: false,
    createHeaders: () => ({ ...(userinfo && { authorization: userinfo.authorization }), ...headers }),
  });
  const connection = createConnection({
    url: new URL(userinfo?.url ?? url),
    fetch,
    timeoutMs: REQUEST_TIMEOUT_MS,
    onChanged: null,
  });
  const limit = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
  try {
    const tools = await abortable(connection.listTools(limit), limit);
    if (tools.length === 0) return warning(`${named} responds, but has no tools; check its configuration.`);
    return ok(`${named} responds and has ${formatQuantity(tools.length, "tool")}.`);
  } catch (error) {
    if (limit.aborted)
      return problem(
        `${named} did not respond within ${REQUEST_TIMEOUT_MS / 1_000} s; check its address and the network.`,
      );
    if (isUserRejected(error) && identitySecret !== null)
      return ok(`${named} responds, and refuses requests without a user, as intended.`);
    const remedy = isUserRejected(error)
      ? `correct MCP_${name.toUpperCase().replaceAll("-", "_")}_HEADERS`
      : `correct the address of ${name} in MCP_SERVERS, or check the server and the network`;
    return problem(`${named} can't be used (${describeError(error)}); ${remedy}.`);
  } finally {
    await abortable(connection.close(), AbortSignal.timeout(1_000)).catch(() => {});
  }
}
