import type { TSchema } from "@sinclair/typebox";
import { findScheduleProblem } from "../lib/cron.ts";
import { explainNoProxy, explainProxy } from "./network.ts";
import { isBuiltIn, isProviderName, splitProvider } from "./providers.ts";
import type { SettingOptions } from "./setting-options.ts";

type Schema = TSchema & SettingOptions;

/** Explains what is wrong with an entry of a list. */
export function explainItem(schema: Schema, value: string, quotedValue: string): string {
  const isSecret = schema.secret === true;
  if (value.includes(";")) {
    const parts = value.split(";").map((part) => part.trim());
    const correction = isSecret ? "" : `: ${parts.filter(Boolean).join(",")}`;
    return `${quotedValue} has a semicolon; separate values with commas${correction}.`;
  }
  if (/\S\s+\S/.test(value)) {
    const correction = isSecret ? "" : `: ${value.split(/\s+/).join(",")}`;
    return `${quotedValue} has a space in it; separate values with commas${correction}.`;
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
      return `${quotedValue} does not have the expected format; write it like ${schema.example}.`;
  }
}

/** Returns the likely scheme: `localhost` and IP addresses usually have no certificate. */
const guessScheme = (rest: string): string =>
  /^(?:localhost|[\w-]+\.localhost|\[|\d{1,3}(?:\.\d{1,3}){3})(?::|\/|$)/i.test(rest) ? "http" : "https";

function explainOrigin(value: string, quotedValue: string): string {
  if (value === "*" || value === "all")
    return `${quotedValue} would allow every website; list each origin, like https://app.example.com.`;
  if (value.includes("*"))
    return `${quotedValue} has a wildcard; list each origin exactly, like https://app.example.com.`;
  if (value === "null")
    return `${quotedValue} is the origin of files and sandboxed pages; serve the page over HTTP and use that origin.`;
  const [, scheme = "", rest = ""] = /^([a-z][a-z0-9+.-]*):\/\/(.*)$/is.exec(value) ?? [];
  if (scheme === "") {
    const bare = value.replace(/^\/+/, "").replace(/[/?#].*$/s, "");
    return `${quotedValue} has no scheme; write ${guessScheme(bare)}://${bare}.`;
  }
  const [authority = ""] = rest.split(/[/?#\\]/);
  const host = authority.slice(authority.lastIndexOf("@") + 1);
  const web = { ws: "http", wss: "https" }[scheme.toLowerCase()] ?? scheme.toLowerCase();
  if (!/^https?$/.test(web))
    return `${quotedValue} is not the origin of a web page; use one that begins with https://.`;
  const origin = `${web}://${host}`;
  if (host === "" || !URL.canParse(origin))
    return `${quotedValue} has no valid host; write it like https://app.example.com.`;
  if (web !== scheme) return `${quotedValue} is not the origin of a web page; write ${origin}.`;
  if (host !== authority) return `${quotedValue} contains a user; write ${origin}.`;
  if (rest === `${host}/`) return `${quotedValue} ends with a slash; write ${origin}.`;
  return `${quotedValue} has more than scheme, host and port; write ${origin}.`;
}

function explainNetwork(value: string, quotedValue: string): string {
  const problem = `${quotedValue} is neither an IP address nor a network`;
  if (/^(?:\*|all|any|true)$/i.test(value))
    return `${problem}; write the addresses of your proxies, or 0.0.0.0/0,::/0 if only proxies can reach Parley.`;
  if (/^[a-z]/i.test(value) && !value.includes(":"))
    return `${problem}; write the proxy's address instead of its name.`;
  return `${problem}; write it like 10.1.2.3, 10.0.0.0/8 or fd00::/8.`;
}

/** Explains what is wrong with an entry of MCP_SERVERS. Never shows the URL, because it may contain a key. */
function explainMcpServer(value: string): string {
  const hint = "write it like wiki=https://mcp.example.com/mcp";
  const equals = value.indexOf("=");
  if (/^https?:/i.test(value) || equals < 0) return `a server's name is missing before its address; ${hint}.`;
  const name = value.slice(0, equals);
  if (!/^[a-z][a-z0-9-]{0,23}$/.test(name))
    return `a server's name must be 1 to 24 of a-z, 0-9 and -, beginning with a letter; ${hint}.`;
  return `the address of the server ${name} is not a URL that begins with http:// or https://; ${hint}.`;
}

/** Explains what is wrong with an entry of AI_PROVIDERS. Never shows the URL, because it may contain a key. */
function explainProvider(value: string): string {
  const hint = "write it like groq=https://api.groq.com/openai/v1";
  const { name, address } = splitProvider(value);
  if (/^https?:/i.test(value) || name === "") return `a server's name is missing before its address; ${hint}.`;
  if (isBuiltIn(name)) return `${name} is a built-in provider; give the server another name.`;
  if (isProviderName(name.toLowerCase().replaceAll(/[_.]/g, "-")) && !isProviderName(name))
    return `a server's name may only have a-z, 0-9 and -; write ${name.toLowerCase().replaceAll(/[_.]/g, "-")}.`;
  if (!isProviderName(name))
    return `a server's name must be 1 to 32 of a-z, 0-9 and -, beginning with a letter or a digit; ${hint}.`;
  if (!/^https?:\/\//.test(address)) return `the address of ${name} does not begin with http:// or https://; ${hint}.`;
  return `the address of ${name} is not a URL; ${hint}.`;
}

/** Explains what is wrong with the value of a setting that isn't a list. */
export function explainText(name: string, schema: Schema, value: string, quotedValue: string): string {
  if (schema.minLength > 1 && value.length < schema.minLength)
    return `${quotedValue} is shorter than ${schema.minLength} characters; set a longer one.`;
  if (schema.format === "http-url") return explainUrl(schema, value, quotedValue);
  if (schema.format === "cron") return explainSchedule(value, quotedValue);
  if (schema.format === "time-zone")
    return `${quotedValue} is not a known time zone; write it like ${schema.example}, or UTC.`;
  if (schema.format === "host") return explainHost(value, quotedValue);
  if (schema.format === "proxy-url") return explainProxy(value);
  if (schema.format === "otel-pairs" || schema.format === "otel-headers")
    return `${quotedValue} is not a list of name=value, comma-separated; percent-encode other commas, and write it like ${schema.example}.`;
  if (name === "DATABASE_URL") return explainDatabaseUrl(value);
  if (name === "REDIS_URL") return explainRedisUrl(value);
  if (name.endsWith("_API_KEY"))
    return `${quotedValue} has a space, or a character that is invalid in a key; copy only the key (without \`Bearer\`).`;
  if (name === "ADMIN_EMAIL") return `${quotedValue} is not an e-mail address; write it like admin@example.com.`;
  if (name === "METRICS_TOKEN") return `${quotedValue} may only have letters, digits and ._~+/=-; choose another one.`;
  const hint = schema.example ? `write it like ${schema.example}` : "correct it";
  return `${quotedValue} does not have the expected format; ${hint}.`;
}

function explainUrl(schema: Schema, value: string, quotedValue: string): string {
  const hint = `write it like ${schema.example ?? "https://api.example.com"}`;
  const problem = `${quotedValue} is not a URL`;
  if (/\s/.test(value)) return `${problem}; remove the space.`;
  const [, scheme] = /^([a-z][a-z0-9+.-]*):\/\//i.exec(value) ?? [];
  if (scheme === undefined && /^https?:/i.test(value)) return `${problem}; write // after the colon.`;
  if (scheme === undefined) {
    const candidate = `${guessScheme(value)}://${value}`;
    // There may be a password before an `@`.
    return URL.canParse(candidate) && !value.includes("@")
      ? `${quotedValue} has no scheme; write ${candidate}.`
      : `${quotedValue} has no scheme; ${hint}.`;
  }
  if (!/^https?$/i.test(scheme)) return `${problem}; begin it with http:// or https:// instead of ${scheme}://.`;
  if (!/^https?$/.test(scheme)) return `${problem}; write ${scheme.toLowerCase()} in lowercase.`;
  return `${problem}; ${hint}.`;
}

/** Cron expressions for the nicknames that other cron programs accept, and for everyday words. */
const schedules: Record<string, string> = {
  daily: "0 2 * * *",
  nightly: "0 2 * * *",
  hourly: "0 * * * *",
  weekly: "0 2 * * 0",
  monthly: "0 2 1 * *",
};

function explainSchedule(value: string, quotedValue: string): string {
  const meant = schedules[value.toLowerCase().replace(/^@/, "")];
  if (meant !== undefined) return `${quotedValue} is not a cron expression; write ${meant}.`;
  return `${quotedValue} is not a cron expression (${findScheduleProblem(value)}); write minute, hour, day, month and weekday, like 15 2 * * * for every night at 2:15.`;
}

function explainHost(value: string, quotedValue: string): string {
  const problem = `${quotedValue} is not an address to listen on`;
  const [, host, port] = /^(?:[a-z]+:\/\/)?([^/:\s]*):(\d+)\/?$/i.exec(value) ?? [];
  if (port !== undefined) return `${problem}; write ${host || "0.0.0.0"}, and set PORT to ${port}.`;
  return `${problem}; write 0.0.0.0 for all addresses of this machine, or one of them.`;
}

function explainDatabaseUrl(value: string): string {
  const hint = "write it like postgres://user:password@host:5432/name";
  if (/^jdbc:/i.test(value)) return `the value is a Java (JDBC) URL; remove jdbc: and ${hint}.`;
  if (/^postgres(?:ql)?\+\w+:/i.test(value)) return "the value names a driver; begin it with postgres:// only.";
  const [, scheme] = /^(mysql|mariadb|sqlite|file|mongodb|mssql|sqlserver|https?|redis):/i.exec(value) ?? [];
  if (scheme !== undefined) return `the value begins with ${scheme}, but Parley needs Postgres; ${hint}.`;
  if (/^postgres(?:ql)?:\/\/.*\s/i.test(value)) return "the value has a space; write it as %20, or remove it.";
  return `the value does not begin with postgres://; ${hint}.`;
}

function explainRedisUrl(value: string): string {
  const hint = "write it like redis://host:6379, or rediss:// for TLS";
  if (value.includes(","))
    return `the value names several servers; use one of them, and Parley finds the others of a cluster.`;
  return /\s/.test(value) ? `the value has a space; ${hint}.` : `the value does not begin with redis://; ${hint}.`;
}
