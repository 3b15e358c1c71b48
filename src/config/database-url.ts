/** What DATABASE_URL says, as libpq means it. */
export type DatabaseAddress = {
  /** A name or an IP address; absent: a Unix socket. */
  host?: string;
  /** Folder of the Unix socket; absent beside an absent `host`: where the system has it. */
  socketDirectory?: string;
  port?: number;
  user?: string;
  password?: string;
  database?: string;
  sslmode: SslMode;
  /** Paths of files; `system` as root certificate: those of the system. */
  sslrootcert?: string;
  sslcert?: string;
  sslkey?: string;
  /** TLS from the first byte on, without asking for it. */
  isTlsDirect: boolean;
  targetSessionAttrs?: string;
  connectTimeoutS?: number;
  /** Whether to use prepared statements; absent: unless a pooler shares its connections between transactions. */
  canPrepare?: boolean;
  /** Startup parameters that the URL may set. */
  session: Record<string, string>;
};

type SslMode = (typeof sslModes)[number];

const sslModes = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] as const;
const isSslMode = (value: string): value is SslMode => (sslModes as readonly string[]).includes(value);

/** Parameters of the query by their names, with the values that they may have. */
const parameters: Record<string, RegExp> = {
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
/** Values of these hold no secret. */
const shownParameters = new Set([
  "sslmode",
  "ssl",
  "sslnegotiation",
  "target_session_attrs",
  "port",
  "channel_binding",
]);

/** scheme, user and password, hosts, database, query: libpq knows no fragment, and a host may be missing. */
const FORM = /^postgres(?:ql)?:\/\/(?:([^/?]*)@)?([^/?]*)(?:\/([^?]*))?(?:\?(.*))?$/s;

/**
 * Reads a connection string. Parameters of the query go before what stands in front of it, as with libpq.
 * @returns the address, or what is wrong with it: sentences without a secret.
 */
export function parseDatabaseUrl(url: string): { address: DatabaseAddress } | { problems: string[] } {
  const parts = FORM.exec(url);
  if (!parts) return { problems: [MALFORMED] };
  const [, credentials = "", authority = "", path = "", query = ""] = parts;
  if (authority.includes(",")) return { problems: [SEVERAL_HOSTS] };
  const server = /^(\[[^\]]*\]|[^:]*)(?::(\d*))?$/.exec(authority);
  // A password with a bare slash looks like a path with an `@`.
  if (!server || /[@/]/.test(path)) return { problems: [MALFORMED] };
  const [, host = "", port = ""] = server;
  const colon = credentials.indexOf(":");
  const inFront = {
    user: colon < 0 ? credentials : credentials.slice(0, colon),
    password: colon < 0 ? "" : credentials.slice(colon + 1),
    host: host.replace(/^\[(.*)\]$/, "$1"),
    port,
    dbname: path,
  };
  const problems: string[] = [];
  const values = new Map<string, string>();
  try {
    for (const [name, value] of Object.entries(inFront)) if (value) values.set(name, decodeURIComponent(value));
    for (const part of query.split("&").filter(Boolean)) {
      const equals = part.indexOf("=");
      const name = decodeURIComponent(equals < 0 ? part : part.slice(0, equals));
      // What has another form may be the end of a password, and is shown nowhere.
      if (!/^\w+$/.test(name)) return { problems: [MALFORMED] };
      const value = equals < 0 ? "" : decodeURIComponent(part.slice(equals + 1));
      const problem = findParameterProblem(name, value);
      if (problem) problems.push(problem);
      values.set(name, value);
    }
  } catch {
    return { problems: [MALFORMED] };
  }
  const address = mapValuesToAddress(values);
  if (problems.length === 0) problems.push(...findAddressProblems(address));
  return problems.length > 0 ? { problems } : { address };
}

const MALFORMED = "DATABASE_URL: the value is not a URL (special characters of a password are percent-encoded).";
const SEVERAL_HOSTS =
  "DATABASE_URL: it names several hosts, of which Parley can only use one; name the primary, or a proxy in front of them.";

function findParameterProblem(name: string, value: string): string | null {
  const form = Object.hasOwn(parameters, name) ? parameters[name] : undefined;
  if (!form && name === "schema")
    return "DATABASE_URL: it has no parameter `schema`; use `search_path` to name the schema.";
  if (!form)
    return `DATABASE_URL: Parley does not know its parameter ${JSON.stringify(name)}; remove it, or correct its name.`;
  if (name === "host" && value.includes(",")) return SEVERAL_HOSTS;
  if (form.test(value)) return null;
  const shown = shownParameters.has(name) ? `${name}=${value}` : `the value of \`${name}\``;
  const [, choices] = /^\^\(([\w|-]+)\)\$$/.exec(form.source) ?? [];
  const cure = choices ? `use one of ${choices.split("|").join(", ")}` : "correct it";
  return `DATABASE_URL: ${shown} is not supported; ${cure}.`;
}

function mapValuesToAddress(values: Map<string, string>): DatabaseAddress {
  const get = (name: string) => values.get(name) || undefined;
  const host = get("host");
  const port = get("port");
  const timeout = get("connect_timeout");
  const isSocket = host === undefined || host.startsWith("/");
  const ssl = get("ssl")?.replace("true", "require").replace("false", "disable");
  const isSystemTrusted = get("sslrootcert") === "system";
  const sslmode = get("sslmode") ?? (isSystemTrusted ? "verify-full" : (ssl ?? "disable"));
  const session: Record<string, string> = {};
  for (const name of ["options", "search_path"]) if (get(name)) session[name] = get(name) ?? "";
  return {
    host: isSocket ? undefined : host,
    socketDirectory: isSocket ? host : undefined,
    port: port ? Number(port) : undefined,
    user: get("user"),
    password: get("password"),
    database: get("dbname"),
    sslmode: isSslMode(sslmode) ? sslmode : "verify-full",
    sslrootcert: get("sslrootcert"),
    sslcert: get("sslcert"),
    sslkey: get("sslkey"),
    isTlsDirect: get("sslnegotiation") === "direct",
    targetSessionAttrs: get("target_session_attrs")?.replace("any", "") || undefined,
    // libpq: 0 waits for ever, and 1 means 2.
    ...(timeout && Number(timeout) > 0 && { connectTimeoutS: Math.max(2, Number(timeout)) }),
    ...(get("prepare") && { canPrepare: get("prepare") === "true" }),
    session,
  };
}

function findAddressProblems({ host, port, sslmode, isTlsDirect, sslcert, sslkey }: DatabaseAddress): string[] {
  const problems: string[] = [];
  if (port !== undefined && (port < 1 || port > 65_535))
    problems.push(`DATABASE_URL: ${port} is not a port; write one from 1 to 65535.`);
  const isCertain = !["disable", "allow", "prefer"].includes(sslmode);
  if (isTlsDirect && host !== undefined && !isCertain)
    problems.push("DATABASE_URL: sslnegotiation=direct needs sslmode=require or a stricter one; add it.");
  if (Boolean(sslcert) !== Boolean(sslkey)) problems.push("DATABASE_URL: set sslcert and sslkey, or neither.");
  if (sslcert && host !== undefined && !isCertain)
    problems.push("DATABASE_URL: sslcert needs sslmode=require or a stricter one; add it.");
  return problems;
}
