import { type TSchema, Type } from "@sinclair/typebox";
import { type HeaderFields, parseHeaderFields } from "../lib/header-fields.ts";
import { parseUserinfo } from "../lib/userinfo.ts";
import type { SettingOptions } from "./setting-options.ts";

const CALL_TIMEOUT_DEFAULT_MS = 20_000;
const CALL_TIMEOUT_MAX_MS = 600_000;
/** The minimum for HS256 (RFC 7518, section 3.2). */
const IDENTITY_SECRET_BYTES_MIN = 32;

/** A server in MCP_SERVERS, with its settings. */
export type McpServerSetting = {
  name: string;
  url: string;
  /** Timeout of a tool call. */
  timeoutMs: number;
  headers: HeaderFields;
  /** Signs the tokens that identify the user to the server. If null, no tokens are sent. */
  identitySecret: string | null;
};

type McpEntry = [name: string, schema: TSchema & SettingOptions];
type McpConfig = { readonly MCP_SERVERS: readonly string[] };

const findServerName = (server: string): string => server.slice(0, server.indexOf("="));
const isName = (name: string): boolean => /^[a-z][a-z0-9-]{0,23}$/.test(name);
/** Converts a server's name for use in the names of its settings. */
const toSettingName = (name: string): string => name.toUpperCase().replaceAll("-", "_");

const listServerSettings = (NAME: string, server: string): McpEntry[] =>
  [
    [
      `MCP_${NAME}_TIMEOUT_MS`,
      Type.Integer({
        default: CALL_TIMEOUT_DEFAULT_MS,
        minimum: 100,
        maximum: CALL_TIMEOUT_MAX_MS,
        description: `Timeout of one tool call to ${server}.`,
      }),
    ],
    [
      `MCP_${NAME}_HEADERS`,
      Type.Optional(
        Type.String({
          minLength: 1,
          format: "header-fields",
          secret: true,
          example: '{"x-api-key":"0123456789abcdef"}',
          description: `Headers of every request to ${server}, as a JSON object.`,
        }),
      ),
    ],
    [
      `MCP_${NAME}_IDENTITY_SECRET`,
      Type.Optional(
        Type.String({
          minLength: 1,
          secret: true,
          protectsAccess: true,
          description:
            `Secret (32 bytes or more) for signing the tokens that identify the user to ${server}. If unset, no tokens are sent. ` +
            "See `docs/tools.md`.",
        }),
      ),
    ],
  ] as McpEntry[];

/** Lists the settings of the servers in MCP_SERVERS. */
export const listMcpSettings = (servers: readonly string[] = []): McpEntry[] =>
  [...new Set(servers.map(findServerName))]
    .filter(isName)
    .flatMap((name) => listServerSettings(toSettingName(name), `\`${name}\``));

/** The documented settings of a server in MCP_SERVERS, with the placeholder `<NAME>`. */
export const mcpSettingsInDocs: readonly McpEntry[] = listServerSettings(
  "<NAME>",
  "the server `<name>` in `MCP_SERVERS`",
).map(([name, schema], index) => {
  const note = " In the setting's name, `<NAME>` is the server's name in uppercase, with `_` instead of `-`.";
  return [name, { ...schema, description: schema.description + (index === 0 ? note : "") }];
});

/** Returns the servers in MCP_SERVERS with their settings. The configuration must be valid. */
export function listMcpServers(config: McpConfig): McpServerSetting[] {
  return config.MCP_SERVERS.map((server) => {
    const name = findServerName(server);
    const findValue = (setting: string) => (config as Record<string, unknown>)[`MCP_${toSettingName(name)}_${setting}`];
    return {
      name,
      url: server.slice(name.length + 1),
      timeoutMs: Number(findValue("TIMEOUT_MS") ?? CALL_TIMEOUT_DEFAULT_MS),
      headers: parseHeaderFields(String(findValue("HEADERS") ?? "{}")) ?? {},
      identitySecret: (findValue("IDENTITY_SECRET") as string | undefined) ?? null,
    };
  });
}

/** Finds MCP settings that are valid individually but contradict each other. The messages contain no secrets. */
export function findMcpProblems(config: McpConfig): string[] {
  const problems: string[] = [];
  const names = config.MCP_SERVERS.map(findServerName);
  if (new Set(names).size < names.length)
    problems.push("MCP_SERVERS: two servers have the same name; rename one of them.");
  for (const { name, url, headers, identitySecret } of listMcpServers(config)) {
    const setting = `MCP_${toSettingName(name)}`;
    const hasUserinfo = parseUserinfo(url) !== null;
    const hasAuthorization = "authorization" in headers;
    if (hasUserinfo && hasAuthorization)
      problems.push(
        `${setting}_HEADERS: it contains authorization, but the URL of ${name} contains a user; remove one of them.`,
      );
    if (identitySecret === null) continue;
    if (Buffer.byteLength(identitySecret) < IDENTITY_SECRET_BYTES_MIN)
      problems.push(
        `${setting}_IDENTITY_SECRET: the value is shorter than ${IDENTITY_SECRET_BYTES_MIN} bytes; generate one with \`openssl rand -base64 32\`.`,
      );
    if (hasUserinfo || hasAuthorization)
      problems.push(
        `${setting}_IDENTITY_SECRET: identity tokens are sent as authorization, but so is the credential of ${name}; send the ` +
          `credential in another header field (${setting}_HEADERS), or remove one of them.`,
      );
  }
  return problems;
}
