/** The contents of DATABASE_URL, as libpq interprets it. */
export type DatabaseAddress = {
  /** A host name or IP address. If absent, a Unix socket is used. */
  host?: string;
  /** Folder of the Unix socket. If this and `host` are absent, the system's default is used. */
  socketDirectory?: string;
  port?: number;
  user?: string;
  password?: string;
  database?: string;
  sslmode: SslMode;
  /** The path of a file, or `system` for the system's certificates. */
  sslrootcert?: string;
  sslcert?: string;
  sslkey?: string;
  /** Whether to start TLS directly, without negotiating it first. */
  isTlsDirect: boolean;
  targetSessionAttrs?: string;
  connectTimeoutS?: number;
  /** Whether to use prepared statements. If absent, they are used unless a pooler shares connections between transactions. */
  canPrepare?: boolean;
  /** The startup parameters that the URL sets. */
  session: Record<string, string>;
};

type SslMode = (typeof sslModes)[number];

const sslModes = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] as const;
const isSslMode = (value: string): value is SslMode => (sslModes as readonly string[]).includes(value);

/** Supported query parameters, with patterns for their values. */
const parameterPatterns: Record<string, RegExp> = {
  host: /^[^,]*$/,
  port: /^\d*$/,
  user: /./,
  password: /^/,
  dbname: /./,
  sslmode: new RegExp(`^(${sslModes.join("|")})$`),
  ssl: new RegExp(`^(true|false|${sslModes.join("|")})$`),
  sslrootcert: /./,
  sslcert: /./,
  sslkey: /./,
  sslnegotiation: /^(postgres|direct)$/,
  target_session_attrs: /^(any|read-write|primary)$/,
  connect_timeout: /^\d{1,6}$/,
  prepare: /^(true|false)$/,
  options: /./,
  search_path: /./,
  application_name: /^/,
  client_encoding: /^(utf-?8|auto)$/i,
  channel_binding: /^(disable|prefer)$/,
  gssencmode: /^(disable|prefer)$/,
};
/** Parameters with values that may be shown in messages, because they are not secret. */
const publicParameters = new Set([
  "sslmode",
  "ssl",
  "sslnegotiation",
  "target_session_attrs",
  "port",
  "channel_binding",
]);

/** Matches a libpq URL. Groups: credentials, hosts, database, query. The host is optional, and there is no fragment. */
const URL_PATTERN = /^postgres(?:ql)?:\/\/(?:([^/?]*)@)?([^/?]*)(?:\/([^?]*))?(?:\?(.*))?$/s;

/**
 * Parses a connection string. Query parameters take precedence over the rest of the URL, as in libpq.
 * @returns the parsed URL, or error messages, which contain no secrets.
 */
export function parseDatabaseUrl(url: string): { address: DatabaseAddress } | { problems: string[] } {
  const match = URL_PATTERN.exec(url);
  if (!match) return { problems: [MALFORMED] };
  const [, credentials = "", authority = "", path = "", query = ""] = match;
  if (authority.includes(",")) return { problems: [SEVERAL_HOSTS] };
  const hostMatch = /^(\[[^\]]*\]|[^:]*)(?::(\d*))?$/.exec(authority);
  // A password with an unescaped slash looks like a path with an `@`.
  if (!hostMatch || /[@/]/.test(path)) return { problems: [MALFORMED] };
  const [, host = "", port = ""] = hostMatch;
  const colon = credentials.indexOf(":");
  const valuesBeforeQuery = {
    user: colon < 0 ? credentials : credentials.slice(0, colon),
    password: colon < 0 ? "" : credentials.slice(colon + 1),
    host: host.replace(/^\[(.*)\]$/, "$1"),
    port,
    dbname: path,
  };
  const problems: string[] = [];
  const values = new Map<string, string>();
  try {
    for (const [name, value] of Object.entries(valuesBeforeQuery))
      if (value) values.set(name, decodeURIComponent(value));
    for (const part of query.split("&").filter(Boolean)) {
      const equals = part.indexOf("=");
      const name = decodeURIComponent(equals < 0 ? part : part.slice(0, equals));
      // The error doesn't quote the malformed name, because the name may be the end of a password.
      if (!/^\w+$/.test(name)) return { problems: [MALFORMED] };
      const value = equals < 0 ? "" : decodeURIComponent(part.slice(equals + 1));
      const problem = findParameterProblem(name, value);
      if (problem) problems.push(problem);
      values.set(name, value);
    }
  } catch {
    return { problems: [MALFORMED] };
  }
  const address = mapParametersToAddress(values);
  if (problems.length === 0) problems.push(...findAddressProblems(address));
  return problems.length > 0 ? { problems } : { address };
}

const MALFORMED = "DATABASE_URL: the value is not a URL; percent-encode special characters in the password.";
const SEVERAL_HOSTS =
  "DATABASE_URL: it has several hosts, but Parley supports only one; use the primary, or a proxy in front of them.";

function findParameterProblem(name: string, value: string): string | null {
  const pattern = Object.hasOwn(parameterPatterns, name) ? parameterPatterns[name] : undefined;
  if (!pattern && name === "schema") return "DATABASE_URL: the parameter `schema` is not supported; use `search_path`.";
  if (!pattern) return `DATABASE_URL: unknown parameter ${JSON.stringify(name)}; remove it, or correct its name.`;
  if (name === "host" && value.includes(",")) return SEVERAL_HOSTS;
  if (pattern.test(value)) return null;
  const subject = publicParameters.has(name) ? `${name}=${value}` : `the value of \`${name}\``;
  const [, choices] = /^\^\(([\w|-]+)\)\$$/.exec(pattern.source) ?? [];
  const remedy = choices ? `use one of ${choices.split("|").join(", ")}` : "correct it";
  return `DATABASE_URL: ${subject} is not supported; ${remedy}.`;
}

function mapParametersToAddress(values: Map<string, string>): DatabaseAddress {
  const getParameter = (name: string) => values.get(name) || undefined;
  const host = getParameter("host");
  const port = getParameter("port");
  const timeoutS = Number(getParameter("connect_timeout") ?? 0);
  const isSocket = host === undefined || host.startsWith("/");
  const ssl = getParameter("ssl")?.replace("true", "require").replace("false", "disable");
  const isSystemTrusted = getParameter("sslrootcert") === "system";
  const sslmode = getParameter("sslmode") ?? (isSystemTrusted ? "verify-full" : (ssl ?? "disable"));
  const sessionParameters: Record<string, string> = {};
  for (const name of ["options", "search_path"])
    if (getParameter(name)) sessionParameters[name] = getParameter(name) ?? "";
  return {
    host: isSocket ? undefined : host,
    socketDirectory: isSocket ? host : undefined,
    port: port ? Number(port) : undefined,
    user: getParameter("user"),
    password: getParameter("password"),
    database: getParameter("dbname"),
    sslmode: isSslMode(sslmode) ? sslmode : "verify-full",
    sslrootcert: getParameter("sslrootcert"),
    sslcert: getParameter("sslcert"),
    sslkey: getParameter("sslkey"),
    isTlsDirect: getParameter("sslnegotiation") === "direct",
    targetSessionAttrs: getParameter("target_session_attrs")?.replace("any", "") || undefined,
    // In libpq, 0 means no timeout, and 1 is treated as 2.
    ...(timeoutS > 0 && { connectTimeoutS: Math.max(2, timeoutS) }),
    ...(getParameter("prepare") && { canPrepare: getParameter("prepare") === "true" }),
    session: sessionParameters,
  };
}

function findAddressProblems({ host, port, sslmode, isTlsDirect, sslcert, sslkey }: DatabaseAddress): string[] {
  const problems: string[] = [];
  if (port !== undefined && (port < 1 || port > 65_535))
    problems.push(`DATABASE_URL: ${port} is not a port; use a number from 1 to 65535.`);
  const requiresTls = !["disable", "allow", "prefer"].includes(sslmode);
  if (isTlsDirect && host !== undefined && !requiresTls)
    problems.push("DATABASE_URL: sslnegotiation=direct requires sslmode=require or stricter; add it.");
  if (Boolean(sslcert) !== Boolean(sslkey)) problems.push("DATABASE_URL: set both sslcert and sslkey, or neither.");
  if (sslcert && host !== undefined && !requiresTls)
    problems.push("DATABASE_URL: sslcert requires sslmode=require or stricter; add it.");
  return problems;
}
