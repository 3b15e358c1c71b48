import { listSettingEntries, type NamedServers } from "./setting-entries.ts";
import { findClosest } from "./spelling.ts";

type Environment = Record<string, string | undefined>;

/** Names that begin so are meant for Parley, whatever follows. */
const ownPrefixes = ["AI_", "RATE_LIMIT_", "OIDC_", "BUDGET_", "WEBHOOK_", "COMPATIBLE_", "QUOTA_"];
/** What is meant for an MCP server that MCP_SERVERS does not name. Other programs have names of their own that begin so. */
const mcpSetting = /^MCP_([A-Z0-9_]+)_(?:TIMEOUT_MS|HEADERS|IDENTITY_SECRET)(?:_FILE)?$/;
/** Shorter names are close to too many others. Characters. */
const NAME_LENGTH_MIN = 7;
const EDITS_MAX = 2;
/** Names that are told of at a start; an environment may hold thousands. */
const UNKNOWN_TOLD_MAX = 20;

/**
 * Names of other programs that look like ours with a slip: other names for the same thing, and names that anybody may use.
 * TLS for Redis, for example, is `rediss://` here and `REDIS_SSL` elsewhere.
 */
const foreignNames = new Set([
  "ALL_PROXY",
  "API_KEY",
  "BASE_URL",
  "DATABASE_SSL",
  "CERT_FILE",
  "FTP_PROXY",
  "GOPROXY",
  "KEY_FILE",
  "LANGUAGE",
  "MAX_RETRIES",
  "PHP_ENV",
  "POOL_SIZE",
  "REDIS_SSL",
  "S3_ACCESS_KEY_ID",
  "S3_BUCKET",
  "S3_ENDPOINT",
  "S3_PREFIX",
  "S3_REGION",
  "S3_SECRET_ACCESS_KEY",
  "TIMEOUT_MS",
]);

/**
 * Names that are formed like those of a server in AI_PROVIDERS where a built-in provider has names of its own, and what the
 * SDKs of OpenAI and Anthropic read elsewhere.
 */
const misplaced = new Map([
  ...["OPENAI", "ANTHROPIC", "COMPATIBLE"].flatMap((NAME) =>
    ["API_KEY", "API_KEY_FILE", "BASE_URL"].map((rest): [string, string] => [`AI_${NAME}_${rest}`, `${NAME}_${rest}`]),
  ),
  ["OPENAI_CUSTOM_HEADERS", "AI_OPENAI_HEADERS"],
  ["ANTHROPIC_CUSTOM_HEADERS", "AI_ANTHROPIC_HEADERS"],
] as [string, string][]);

/** What Kubernetes gives a container for each service of its namespace: a service may be called `ai` or `webhook`. */
const serviceName =
  /^[A-Z][A-Z0-9_]*_(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)$/;
const servicePort = /^(?:tcp|udp|sctp):\/\//;

type Vocabulary = {
  known: ReadonlySet<string>;
  longNames: readonly string[];
  /** Ours without one of their words, with the whole name. A single word that is left means nothing. */
  shortened: ReadonlyMap<string, string>;
};

/** All names there are with these servers. */
function createVocabulary(named: NamedServers): Vocabulary {
  const entries = listSettingEntries(named);
  const names = entries.map(([name]) => name);
  const fileNames = entries.flatMap(([name, schema]) => (schema.secret ? [`${name}_FILE`] : []));
  const smallNames = entries.flatMap(([name, schema]) => (schema.isSystemWide ? [name.toLowerCase()] : []));
  const known = [...names, ...fileNames];
  return {
    known: new Set([...known, ...smallNames]),
    longNames: known.filter((name) => name.length >= NAME_LENGTH_MIN),
    shortened: new Map([...shorten(fileNames, 3), ...shorten(names, 2)]),
  };
}

function shorten(wholes: readonly string[], wordsMin: number): [string, string][] {
  return wholes.flatMap((whole) => {
    const words = whole.split("_");
    if (words.length <= wordsMin) return [];
    return words.map((_, left): [string, string] => [words.filter((_, index) => index !== left).join("_"), whole]);
  });
}

type Unknown = { name: string; remedy: string };

/** Names in the environment that are most likely meant for Parley, but that it does not know, each with what to do. */
function listUnknownNames(environment: Environment, named: NamedServers): Unknown[] {
  const vocabulary = createVocabulary(named);
  return Object.entries(environment).flatMap(([name, value = ""]) => {
    if (vocabulary.known.has(name) || isForeign(name, value)) return [];
    const remedy = findRemedy(name, vocabulary);
    return remedy === null ? [] : [{ name, remedy }];
  });
}

function findRemedy(name: string, { known, longNames, shortened }: Vocabulary): string | null {
  const meant = misplaced.get(name) ?? findMeant(name.toUpperCase(), longNames) ?? shortened.get(name.toUpperCase());
  if (meant !== undefined) return `did you mean ${meant}?`;
  const [, mcpServer] = mcpSetting.exec(name) ?? [];
  if (mcpServer !== undefined) return `name the server in MCP_SERVERS, as ${toServerName(mcpServer)}=ITS_URL.`;
  if (!ownPrefixes.some((prefix) => name.startsWith(prefix))) return null;
  const [, provider, setting] =
    /^AI_([A-Z0-9_]+)_(API_KEY|HEADERS|BASE_URL|FIRST_TOKEN_TIMEOUT_MS|IDLE_TIMEOUT_MS)(?:_FILE)?$/.exec(name) ?? [];
  if (provider === undefined) return "remove it, or look for its name in `parley config`.";
  if (known.has(`AI_${provider}_API_KEY`) && setting !== "BASE_URL")
    return "remove it, or look for its name in `parley config`.";
  return `name the server in AI_PROVIDERS, as ${toServerName(provider)}=ITS_BASE_URL.`;
}

const toServerName = (NAME: string): string => NAME.toLowerCase().replaceAll("_", "-");

const findMeant = (upper: string, longNames: readonly string[]): string | undefined =>
  upper.length >= NAME_LENGTH_MIN - EDITS_MAX ? findClosest(upper, longNames, EDITS_MAX) : undefined;

function isForeign(name: string, value: string): boolean {
  if (foreignNames.has(name.toUpperCase()) || serviceName.test(name)) return true;
  return name.endsWith("_PORT") && servicePort.test(value);
}

/**
 * A warning for each name that is misspelt, without its value.
 * @param isFromFile whether a name stands in `.env`.
 * @param named the servers that the settings name.
 */
export function findUnknownNames(
  environment: Environment,
  isFromFile: (name: string) => boolean = () => false,
  named: NamedServers = {},
): string[] {
  const unknown = listUnknownNames(environment, named);
  const told = unknown.slice(0, UNKNOWN_TOLD_MAX).map(({ name, remedy }) => {
    const where = isFromFile(name) ? " in .env" : "";
    const shown = JSON.stringify(name).slice(1, -1).slice(0, 100);
    return `${shown}${where} is not a setting of Parley and has no effect; ${remedy}`;
  });
  const left = unknown.length - told.length;
  return left > 0
    ? [...told, `${left} more names like these are no settings of Parley either; correct or remove them.`]
    : told;
}
