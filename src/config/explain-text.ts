import type { TSchema } from "@sinclair/typebox";
import { findScheduleProblem } from "../lib/cron.ts";
import { explainNoProxy, explainProxy } from "./network.ts";
import { isBuiltIn, isProviderName, splitProvider } from "./providers.ts";
import type { SettingOptions } from "./setting-options.ts";

type Schema = TSchema & SettingOptions;

/** Explains why a list entry is invalid. */
export function explainListEntry(schema: Schema, value: string, quotedValue: string): string {
  const isSecret = schema.secret === true;
  if (value.includes(";")) {
    const parts = value.split(";").map((part) => part.trim());
    const correction = isSecret ? "" : `: ${parts.filter(Boolean).join(",")}`;
    return `${quotedValue} contains a semicolon; separate values with commas${correction}.`;
  }
  if (/\S\s+\S/.test(value)) {
    const correction = isSecret ? "" : `: ${value.split(/\s+/).join(",")}`;
    return `${quotedValue} contains a space; separate values with commas${correction}.`;
  }
  if (/^\[|\]$/.test(value) && !value.includes("::"))
    return `${quotedValue} looks like a JSON list; write only the values, separated by commas.`;
  switch (schema.items?.format) {
    case "origin":
      return explainOrigin(value, quotedValue);
    case "network":
      return explainNetwork(value, quotedValue);
    case "no-proxy":
      return explainNoProxy(value, quotedValue);
    case "mcp-server":
      return explainMcpServer(value);
    case "provider":
      return explainProvider(value);
    default:
      return `${quotedValue} does not have the expected format; write it as ${schema.example}.`;
  }
}

/** Guesses the scheme of a URL. `localhost` and IP addresses usually have no certificate. */
const guessScheme = (rest: string): string =>
  /^(?:localhost|[\w-]+\.localhost|\[|\d{1,3}(?:\.\d{1,3}){3})(?::|\/|$)/i.test(rest) ? "http" : "https";

function explainOrigin(value: string, quotedValue: string): string {
  if (value === "*" || value === "all")
    return `${quotedValue} would allow every website; list each origin, for example https://app.example.com.`;
  if (value.includes("*"))
    return `${quotedValue} contains a wildcard; list each origin exactly, for example https://app.example.com.`;
  if (value === "null")
    return `${quotedValue} is the origin of files and sandboxed pages; serve the page over HTTP and use that origin.`;
  const [, scheme = "", rest = ""] = /^([a-z][a-z0-9+.-]*):\/\/(.*)$/is.exec(value) ?? [];
  if (scheme === "") {
    const hostAndPort = value.replace(/^\/+/, "").replace(/[/?#].*$/s, "");
    return `${quotedValue} has no scheme; write ${guessScheme(hostAndPort)}://${hostAndPort}.`;
  }
  const [authority = ""] = rest.split(/[/?#\\]/);
  const host = authority.slice(authority.lastIndexOf("@") + 1);
  const webScheme = { ws: "http", wss: "https" }[scheme.toLowerCase()] ?? scheme.toLowerCase();
  if (!/^https?$/.test(webScheme))
    return `${quotedValue} is not the origin of a web page; use one that begins with https://.`;
  const origin = `${webScheme}://${host}`;
  if (host === "" || !URL.canParse(origin))
    return `${quotedValue} has no valid host; write it as https://app.example.com.`;
  if (webScheme !== scheme) return `${quotedValue} is not the origin of a web page; write ${origin}.`;
  if (host !== authority) return `${quotedValue} contains a user; write ${origin}.`;
  if (rest === `${host}/`) return `${quotedValue} ends with a slash; write ${origin}.`;
  return `${quotedValue} contains more than a scheme, host and port; write ${origin}.`;
}

function explainNetwork(value: string, quotedValue: string): string {
  const problem = `${quotedValue} is neither an IP address nor a network`;
  if (/^(?:\*|all|any|true)$/i.test(value))
    return `${problem}; write the addresses of your proxies, or 0.0.0.0/0,::/0 if only proxies can reach Parley.`;
  if (/^[a-z]/i.test(value) && !value.includes(":"))
    return `${problem}; write the proxy's address instead of its name.`;
  return `${problem}; write it as 10.1.2.3, 10.0.0.0/8 or fd00::/8.`;
}

/** Explains why an entry of MCP_SERVERS is invalid. Doesn't show the URL, because it may contain a key. */
function explainMcpServer(value: string): string {
  const hint = "write it as wiki=https://mcp.example.com/mcp";
  const equals = value.indexOf("=");
  if (/^https?:/i.test(value) || equals < 0) return `a server's name is missing before its URL; ${hint}.`;
  const name = value.slice(0, equals);
  if (!/^[a-z][a-z0-9-]{0,23}$/.test(name))
    return `a server's name must have 1 to 24 characters (a-z, 0-9, -) and begin with a letter; ${hint}.`;
  return `the URL of the server ${name} is invalid or doesn't begin with http:// or https://; ${hint}.`;
}

/** Explains why an entry of AI_PROVIDERS is invalid. Doesn't show the URL, because it may contain a key. */
function explainProvider(value: string): string {
  const hint = "write it as groq=https://api.groq.com/openai/v1";
  const { name, url } = splitProvider(value);
  if (/^https?:/i.test(value) || name === "") return `a server's name is missing before its URL; ${hint}.`;
  if (isBuiltIn(name)) return `${name} is a built-in provider; choose a different name for the server.`;
  if (isProviderName(name.toLowerCase().replaceAll(/[_.]/g, "-")) && !isProviderName(name))
    return `a server's name may contain only a-z, 0-9 and -; write ${name.toLowerCase().replaceAll(/[_.]/g, "-")}.`;
  if (!isProviderName(name))
    return `a server's name must have 1 to 32 characters (a-z, 0-9, -) and begin with a letter or digit; ${hint}.`;
  if (!/^https?:\/\//.test(url)) return `the URL of ${name} does not begin with http:// or https://; ${hint}.`;
  return `the URL of ${name} is invalid; ${hint}.`;
}

/** Explains why a string setting is invalid. */
export function explainString(name: string, schema: Schema, value: string, quotedValue: string): string {
  if (schema.minLength > 1 && value.length < schema.minLength)
    return `${quotedValue} is shorter than ${schema.minLength} characters; set a longer one.`;
  if (schema.format === "http-url") return explainUrl(schema, value, quotedValue);
  if (schema.format === "cron") return explainSchedule(value, quotedValue);
  if (schema.format === "time-zone")
    return `${quotedValue} is not a known time zone; write it as ${schema.example}, or UTC.`;
  if (schema.format === "host") return explainHost(value, quotedValue);
  if (schema.format === "proxy-url") return explainProxy(value);
  if (schema.format === "otel-pairs" || schema.format === "otel-headers")
    return `${quotedValue} is not a list of name=value, comma-separated; percent-encode other commas, and write it as ${schema.example}.`;
  if (name === "DATABASE_URL") return explainDatabaseUrl(value);
  if (name === "REDIS_URL") return explainRedisUrl(value);
  if (name.endsWith("_API_KEY"))
    return `${quotedValue} contains a space or another invalid character; copy only the key (without \`Bearer\`).`;
  if (name === "ADMIN_EMAIL") return `${quotedValue} is not an email address; write it as admin@example.com.`;
  if (name === "METRICS_TOKEN")
    return `${quotedValue} may contain only letters, digits and ._~+/=-; choose a different one.`;
  const hint = schema.example ? `write it as ${schema.example}` : "correct it";
  return `${quotedValue} does not have the expected format; ${hint}.`;
}

function explainUrl(schema: Schema, value: string, quotedValue: string): string {
  const hint = `write it as ${schema.example ?? "https://api.example.com"}`;
  const problem = `${quotedValue} is not a URL`;
  if (/\s/.test(value)) return `${problem}; remove the space.`;
  const [, scheme] = /^([a-z][a-z0-9+.-]*):\/\//i.exec(value) ?? [];
  if (scheme === undefined && /^https?:/i.test(value)) return `${problem}; write // after the colon.`;
  if (scheme === undefined) {
    const candidate = `${guessScheme(value)}://${value}`;
    // The part before an `@` may be a password.
    return URL.canParse(candidate) && !value.includes("@")
      ? `${quotedValue} has no scheme; write ${candidate}.`
      : `${quotedValue} has no scheme; ${hint}.`;
  }
  if (!/^https?$/i.test(scheme)) return `${problem}; begin it with http:// or https:// instead of ${scheme}://.`;
  if (!/^https?$/.test(scheme)) return `${problem}; write ${scheme.toLowerCase()} in lowercase.`;
  return `${problem}; ${hint}.`;
}

/** Cron expressions to suggest for words and for the nicknames that other cron programs accept. */
const schedules: Record<string, string> = {
  daily: "0 2 * * *",
  nightly: "0 2 * * *",
  hourly: "0 * * * *",
  weekly: "0 2 * * 0",
  monthly: "0 2 1 * *",
};

function explainSchedule(value: string, quotedValue: string): string {
  const suggestion = schedules[value.toLowerCase().replace(/^@/, "")];
  if (suggestion !== undefined) return `${quotedValue} is not a cron expression; write ${suggestion}.`;
  return `${quotedValue} is not a cron expression (${findScheduleProblem(value)}); write minute, hour, day, month and weekday, for example 15 2 * * * for every night at 2:15.`;
}

function explainHost(value: string, quotedValue: string): string {
  const problem = `${quotedValue} is not an address to listen on`;
  const [, host, port] = /^(?:[a-z]+:\/\/)?([^/:\s]*):(\d+)\/?$/i.exec(value) ?? [];
  if (port !== undefined) return `${problem}; write ${host || "0.0.0.0"}, and set PORT to ${port}.`;
  return `${problem}; write 0.0.0.0 for all addresses of this machine, or a single address.`;
}

function explainDatabaseUrl(value: string): string {
  const hint = "write it as postgres://user:password@host:5432/name";
  if (/^jdbc:/i.test(value)) return `the value is a Java (JDBC) URL; remove jdbc: and ${hint}.`;
  if (/^postgres(?:ql)?\+\w+:/i.test(value)) return "the value contains a driver name; begin it with postgres://.";
  const [, scheme] = /^(mysql|mariadb|sqlite|file|mongodb|mssql|sqlserver|https?|redis):/i.exec(value) ?? [];
  if (scheme !== undefined) return `the value begins with ${scheme}, but Parley needs Postgres; ${hint}.`;
  if (/^postgres(?:ql)?:\/\/.*\s/i.test(value)) return "the value contains a space; write it as %20, or remove it.";
  return `the value does not begin with postgres://; ${hint}.`;
}

function explainRedisUrl(value: string): string {
  const hint = "write it as redis://host:6379, or rediss:// for TLS";
  if (value.includes(","))
    return `the value contains several servers; use one of them, and Parley finds the other nodes of the cluster.`;
  return /\s/.test(value) ? `the value contains a space; ${hint}.` : `the value does not begin with redis://; ${hint}.`;
}
