import { type TSchema, Type } from "@sinclair/typebox";
import { type HeaderFields, parseHeaderFields } from "../lib/header-fields.ts";
import { readUserinfo } from "../lib/userinfo.ts";
import type { SettingOptions } from "./setting-options.ts";

const CALL_TIMEOUT_DEFAULT_MS = 20_000;
const CALL_TIMEOUT_MAX_MS = 600_000;
/** The minimum for HS256 (RFC 7518, section 3.2). */
const IDENTITY_SECRET_BYTES_MIN = 32;

/** One server of MCP_SERVERS, with its own settings. */
export type McpServerSetting = {
  name: string;
  url: string;
  /** Timeout of one call. */
  timeoutMs: number;
  headers: HeaderFields;
  /** Signs the tokens that identify the user to the server; null: no user is sent. */
  identitySecret: string | null;
};

type McpEntry = [name: string, schema: TSchema & SettingOptions];
type McpConfig = { readonly MCP_SERVERS: readonly string[] };

const nameOf = (server: string): string => server.slice(0, server.indexOf("="));
const isName = (name: string): boolean => /^[a-z][a-z0-9-]{0,23}$/.test(name);
/** Converts a server's name to the form used in the names of its settings. */
const toSettingName = (name: string): string => name.toUpperCase().replaceAll("-", "_");

const listSettingsOf = (NAME: string, server: string): McpEntry[] =>
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
          description: `Header fields of every request to ${server}, as a JSON object.`,
        }),
      ),
    ],
    [
      `MCP_${NAME}_IDENTITY_SECRET`,
      Type.Optional(
        Type.String({
          minLength: 1,
          secret: true,
          isGuard: true,
          description:
            `Signs a token that tells ${server} which user a request is for; 32 bytes or more. Absent: no token is sent. ` +
            "See `docs/tools.md`.",
        }),
      ),
    ],
  ] as McpEntry[];

/** Lists the settings of the servers in MCP_SERVERS. */
export const listMcpSettings = (servers: readonly string[] = []): McpEntry[] =>
  [...new Set(servers.map(nameOf))]
    .filter(isName)
    .flatMap((name) => listSettingsOf(toSettingName(name), `\`${name}\``));

/** The settings of one server in MCP_SERVERS as documented, with `<NAME>` for its name. */
export const mcpSettingsInDocs: readonly McpEntry[] = listSettingsOf("<NAME>", "the server `<name>`").map(
  ([name, schema], index) => {
    const where = "For a server in `MCP_SERVERS`: `<NAME>` is its name in uppercase, with `_` for `-`. ";
    return [name, { ...schema, description: (index === 0 ? where : "") + schema.description }];
  },
);

/** Returns the servers in MCP_SERVERS with their settings. The configuration must be valid. */
export function readMcpServers(config: McpConfig): McpServerSetting[] {
  return config.MCP_SERVERS.map((server) => {
    const name = nameOf(server);
    const read = (setting: string) => (config as Record<string, unknown>)[`MCP_${toSettingName(name)}_${setting}`];
    return {
      name,
      url: server.slice(name.length + 1),
      timeoutMs: Number(read("TIMEOUT_MS") ?? CALL_TIMEOUT_DEFAULT_MS),
      headers: parseHeaderFields(String(read("HEADERS") ?? "{}")) ?? {},
      identitySecret: (read("IDENTITY_SECRET") as string | undefined) ?? null,
    };
  });
}

/** Finds MCP settings that are valid on their own but contradict each other. Returns sentences that contain no secrets. */
export function findMcpProblems(config: McpConfig): string[] {
  const problems: string[] = [];
  const names = config.MCP_SERVERS.map(nameOf);
  if (new Set(names).size < names.length)
    problems.push("MCP_SERVERS: two servers have the same name; rename one of them.");
  for (const { name, url, headers, identitySecret } of readMcpServers(config)) {
    const setting = `MCP_${toSettingName(name)}`;
    const hasUserinfo = readUserinfo(url) !== null;
    const hasAuthorization = "authorization" in headers;
    if (hasUserinfo && hasAuthorization)
      problems.push(
        `${setting}_HEADERS: it has authorization, but the address of ${name} contains a user; remove one of them.`,
      );
    if (identitySecret === null) continue;
    if (Buffer.byteLength(identitySecret) < IDENTITY_SECRET_BYTES_MIN)
      problems.push(
        `${setting}_IDENTITY_SECRET: the value is shorter than ${IDENTITY_SECRET_BYTES_MIN} bytes (openssl rand -base64 32).`,
      );
    if (hasUserinfo || hasAuthorization)
      problems.push(
        `${setting}_IDENTITY_SECRET: identity tokens are sent as authorization, but so is the credential of ${name}; send the ` +
          `credential in another header field (${setting}_HEADERS), or remove one of them.`,
      );
  }
  return problems;
}
