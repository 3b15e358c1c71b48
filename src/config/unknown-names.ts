import { listSettingEntries, type NamedServers } from "./setting-entries.ts";
import { findClosest } from "./spelling.ts";

type Environment = Record<string, string | undefined>;

/** Names with these prefixes are assumed to be meant for Parley. */
const ownPrefixes = ["AI_", "RATE_LIMIT_", "OIDC_", "BUDGET_", "WEBHOOK_", "COMPATIBLE_", "QUOTA_"];
/** Matches settings of MCP servers. Not just the prefix, because other programs use it too. */
const mcpSetting = /^MCP_([A-Z0-9_]+)_(?:TIMEOUT_MS|HEADERS|IDENTITY_SECRET)(?:_FILE)?$/;
/** In characters. Shorter names are similar to too many others. */
const NAME_LENGTH_MIN = 7;
const EDITS_MAX = 2;
/** The maximum number of unknown names to log at startup; an environment may have thousands. */
const UNKNOWN_LOGGED_MAX = 20;

/**
 * Variables of other programs that look like misspelled settings. Some mean the same as one of Parley's settings: for example,
 * TLS for Redis is set with `rediss://` in Parley, and with `REDIS_SSL` elsewhere.
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
 * Wrong names for settings of built-in providers, mapped to the right ones: names like those for servers in AI_PROVIDERS, and
 * names that the SDKs of OpenAI,
 * Anthropic and OpenTelemetry read in other programs.
 */
const misplaced = new Map([
  ...["OPENAI", "ANTHROPIC", "COMPATIBLE"].flatMap((NAME) =>
    ["API_KEY", "API_KEY_FILE", "BASE_URL"].map((rest): [string, string] => [`AI_${NAME}_${rest}`, `${NAME}_${rest}`]),
  ),
  ["OPENAI_CUSTOM_HEADERS", "AI_OPENAI_HEADERS"],
  ["ANTHROPIC_CUSTOM_HEADERS", "AI_ANTHROPIC_HEADERS"],
  ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"],
  ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"],
  ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"],
] as [string, string][]);

/** Matches variables that Kubernetes sets in containers for each service in the namespace, which may be called `ai` or `webhook`. */
const serviceName =
  /^[A-Z][A-Z0-9_]*_(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)$/;
const servicePort = /^(?:tcp|udp|sctp):\/\//;

type Vocabulary = {
  known: ReadonlySet<string>;
  longNames: readonly string[];
  /** Parley's names without one of their words, mapped to the full name. Those with only one remaining word are excluded. */
  shortened: ReadonlyMap<string, string>;
};

/** Creates the vocabulary for a configuration with these servers. */
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
    return words.map((_, omittedIndex): [string, string] => [
      words.filter((_, index) => index !== omittedIndex).join("_"),
      whole,
    ]);
  });
}

type Unknown = { name: string; remedy: string };

/** Lists unknown environment variables that are probably meant for Parley, each with how to fix it. */
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
  if (mcpServer !== undefined) return `add the server to MCP_SERVERS, as ${toServerName(mcpServer)}=ITS_URL.`;
  if (!ownPrefixes.some((prefix) => name.startsWith(prefix))) return null;
  const [, provider, setting] =
    /^AI_([A-Z0-9_]+)_(API_KEY|HEADERS|BASE_URL|FIRST_TOKEN_TIMEOUT_MS|IDLE_TIMEOUT_MS)(?:_FILE)?$/.exec(name) ?? [];
  if (provider === undefined) return "remove it, or find the right name in `parley config`.";
  if (known.has(`AI_${provider}_API_KEY`) && setting !== "BASE_URL")
    return "remove it, or find the right name in `parley config`.";
  return `add the server to AI_PROVIDERS, as ${toServerName(provider)}=ITS_BASE_URL.`;
}

const toServerName = (NAME: string): string => NAME.toLowerCase().replaceAll("_", "-");

const findMeant = (upper: string, longNames: readonly string[]): string | undefined =>
  upper.length >= NAME_LENGTH_MIN - EDITS_MAX ? findClosest(upper, longNames, EDITS_MAX) : undefined;

function isForeign(name: string, value: string): boolean {
  if (foreignNames.has(name.toUpperCase()) || serviceName.test(name)) return true;
  return name.endsWith("_PORT") && servicePort.test(value);
}

/**
 * Returns a warning for each misspelled name, without its value.
 * @param isFromFile whether a name comes from `.env`.
 * @param named the servers named in settings.
 */
export function findUnknownNames(
  environment: Environment,
  isFromFile: (name: string) => boolean = () => false,
  named: NamedServers = {},
): string[] {
  const unknown = listUnknownNames(environment, named);
  const messages = unknown.slice(0, UNKNOWN_LOGGED_MAX).map(({ name, remedy }) => {
    const where = isFromFile(name) ? " in .env" : "";
    const printableName = JSON.stringify(name).slice(1, -1).slice(0, 100);
    return `${printableName}${where} is not a setting of Parley and has no effect; ${remedy}`;
  });
  const omittedIndex = unknown.length - messages.length;
  return omittedIndex > 0
    ? [...messages, `${omittedIndex} more names like these are not settings of Parley either; correct or remove them.`]
    : messages;
}
