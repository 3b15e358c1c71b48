import { listMcpServers, type McpServerSetting } from "../../config/mcp.ts";
import { abortable } from "../../lib/abortable.ts";
import { maskSecretAddress } from "../../lib/mask-address.ts";
import { parseUserinfo } from "../../lib/userinfo.ts";
import { createBoundedFetch } from "../../modules/tools/mcp/bounded-fetch.ts";
import { createConnection } from "../../modules/tools/mcp/connection.ts";
import { describeError, isUserRejected } from "../../modules/tools/mcp/describe-error.ts";
import { formatQuantity } from "../selftest/measurements.ts";
import { type DoctorCheck, type DoctorContext, REQUEST_TIMEOUT_MS } from "./check.ts";
import { compareWithDateHeader } from "./clock-reading.ts";
import { type Finding, ok, problem, skipped, warning } from "./finding.ts";

export const mcpCheck: DoctorCheck = {
  name: "mcp",
  async run(context) {
    const servers = listMcpServers(context.config);
    if (servers.length === 0) return [skipped("MCP_SERVERS is not set.")];
    if (context.isOffline) return [skipped("--offline: the MCP servers are not called.")];
    return await Promise.all(servers.map((server) => checkMcpServer(server, context)));
  },
};

/** Lists a server's tools in a new session, which it then closes. */
async function checkMcpServer(server: McpServerSetting, context: DoctorContext): Promise<Finding> {
  const { name, url, headers, identitySecret } = server;
  const label = `MCP server ${name} (${maskSecretAddress(url)})`;
  const userinfo = parseUserinfo(url);
  const fetch = createBoundedFetch({
    fetch: async (address, init) => {
      const sentAtMs = Date.now();
      const response = await context.fetch(address, init);
      const reading = compareWithDateHeader(new URL(address).host, response.headers, sentAtMs);
      if (reading) context.clockReadings.push(reading);
      return response;
    },
    timeoutMs: REQUEST_TIMEOUT_MS,
    allowStreams: false,
    createHeaders: () => ({ ...(userinfo && { authorization: userinfo.authorization }), ...headers }),
  });
  const connection = createConnection({
    url: new URL(userinfo?.url ?? url),
    fetch,
    timeoutMs: REQUEST_TIMEOUT_MS,
    onChanged: null,
  });
  const timeoutSignal = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
  try {
    const tools = await abortable(connection.listTools(timeoutSignal), timeoutSignal);
    if (tools.length === 0) return warning(`${label} responds, but has no tools; check its configuration.`);
    return ok(`${label} responds and has ${formatQuantity(tools.length, "tool")}.`);
  } catch (error) {
    if (timeoutSignal.aborted)
      return problem(`${label} did not respond within ${REQUEST_TIMEOUT_MS / 1_000} s; check its URL and the network.`);
    if (isUserRejected(error) && identitySecret !== null)
      return ok(`${label} responds, and rejects requests without a user, as intended.`);
    const remedy = isUserRejected(error)
      ? `correct MCP_${name.toUpperCase().replaceAll("-", "_")}_HEADERS`
      : `correct the URL of ${name} in MCP_SERVERS, or check the server and the network`;
    return problem(`${label} can't be used (${describeError(error)}); ${remedy}.`);
  } finally {
    await abortable(connection.close(), AbortSignal.timeout(1_000)).catch(() => {});
  }
}
