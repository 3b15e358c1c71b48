import { listSettingEntries, type NamedServers } from "./setting-entries.ts";
import { findClosest } from "./spelling.ts";

type Environment = Record<string, string | undefined>;

/** Unknown names with these prefixes are assumed to be meant for Parley. */
const parleyPrefixes = ["AI_", "RATE_LIMIT_", "OIDC_", "BUDGET_", "WEBHOOK_", "COMPATIBLE_", "QUOTA_"];
/** Matches settings of MCP servers. The whole name must match, because other programs also use the prefix `MCP_`. */
const MCP_SETTING = /^MCP_([A-Z0-9_]+)_(?:TIMEOUT_MS|HEADERS|IDENTITY_SECRET)(?:_FILE)?$/;
/** Shorter names are similar to too many others. */
const NAME_LENGTH_MIN = 7;
/** Maximum Levenshtein distance between a misspelled name and the suggested one. */
const EDITS_MAX = 2;
/** Maximum number of unknown names to log at startup; an environment may have thousands. */
const UNKNOWN_LOGGED_MAX = 20;

/**
 * Variables of other programs that look like misspelled Parley settings. Some have an equivalent in Parley: for example,
 * `rediss://` is the equivalent of `REDIS_SSL`.
 */
const otherProgramNames = new Set([
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
 * Incorrect setting names, mapped to the correct ones. Some follow the pattern for servers in AI_PROVIDERS, which doesn't apply to
 * built-in providers. The others are read by the SDKs of OpenAI, Anthropic and OpenTelemetry in other programs.
 */
const correctNames = new Map([
  ...["OPENAI", "ANTHROPIC", "COMPATIBLE"].flatMap((NAME) =>
    ["API_KEY", "API_KEY_FILE", "BASE_URL"].map((suffix): [string, string] => [
      `AI_${NAME}_${suffix}`,
      `${NAME}_${suffix}`,
    ]),
  ),
  ["OPENAI_CUSTOM_HEADERS", "AI_OPENAI_HEADERS"],
  ["ANTHROPIC_CUSTOM_HEADERS", "AI_ANTHROPIC_HEADERS"],
  ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"],
  ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"],
  ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"],
] as [string, string][]);

/** Matches variables that Kubernetes sets for each service. The service may be called `ai` or `webhook`. */
const SERVICE_NAME =
  /^[A-Z][A-Z0-9_]*_(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)$/;
const SERVICE_URL = /^(?:tcp|udp|sctp):\/\//;

type Vocabulary = {
  knownNames: ReadonlySet<string>;
  longNames: readonly string[];
  /** Setting names with one word omitted, mapped to the full name. */
  shortenedNames: ReadonlyMap<string, string>;
};

/** Creates the vocabulary for a configuration with the given servers. */
function createVocabulary(servers: NamedServers): Vocabulary {
  const entries = listSettingEntries(servers);
  const names = entries.map(([name]) => name);
  const fileNames = entries.flatMap(([name, schema]) => (schema.secret ? [`${name}_FILE`] : []));
  const lowercaseNames = entries.flatMap(([name, schema]) => (schema.isSystemWide ? [name.toLowerCase()] : []));
  const allNames = [...names, ...fileNames];
  return {
    knownNames: new Set([...allNames, ...lowercaseNames]),
    longNames: allNames.filter((name) => name.length >= NAME_LENGTH_MIN),
    shortenedNames: new Map([...omitWords(fileNames, 3), ...omitWords(names, 2)]),
  };
}

function omitWords(fullNames: readonly string[], wordsMin: number): [string, string][] {
  return fullNames.flatMap((fullName) => {
    const words = fullName.split("_");
    if (words.length <= wordsMin) return [];
    return words.map((_, omittedIndex): [string, string] => [
      words.filter((_, index) => index !== omittedIndex).join("_"),
      fullName,
    ]);
  });
}

type UnknownName = { name: string; remedy: string };

/** Lists unknown environment variables that are probably meant for Parley, each with a remedy. */
function listUnknownNames(environment: Environment, servers: NamedServers): UnknownName[] {
  const vocabulary = createVocabulary(servers);
  return Object.entries(environment).flatMap(([name, value = ""]) => {
    if (vocabulary.knownNames.has(name) || belongsToOtherProgram(name, value)) return [];
    const remedy = findRemedy(name, vocabulary);
    return remedy === null ? [] : [{ name, remedy }];
  });
}

function findRemedy(name: string, { knownNames, longNames, shortenedNames }: Vocabulary): string | null {
  const suggestion =
    correctNames.get(name) ?? findSimilarName(name.toUpperCase(), longNames) ?? shortenedNames.get(name.toUpperCase());
  if (suggestion !== undefined) return `did you mean ${suggestion}?`;
  const [, mcpServer] = MCP_SETTING.exec(name) ?? [];
  if (mcpServer !== undefined) return `add the server to MCP_SERVERS, as ${toServerName(mcpServer)}=ITS_URL.`;
  if (!parleyPrefixes.some((prefix) => name.startsWith(prefix))) return null;
  const [, provider, setting] =
    /^AI_([A-Z0-9_]+)_(API_KEY|HEADERS|BASE_URL|FIRST_TOKEN_TIMEOUT_MS|IDLE_TIMEOUT_MS)(?:_FILE)?$/.exec(name) ?? [];
  if (provider === undefined) return "remove it, or find the correct name in `parley config`.";
  if (knownNames.has(`AI_${provider}_API_KEY`) && setting !== "BASE_URL")
    return "remove it, or find the correct name in `parley config`.";
  return `add the server to AI_PROVIDERS, as ${toServerName(provider)}=ITS_BASE_URL.`;
}

const toServerName = (NAME: string): string => NAME.toLowerCase().replaceAll("_", "-");

const findSimilarName = (uppercaseName: string, longNames: readonly string[]): string | undefined =>
  uppercaseName.length >= NAME_LENGTH_MIN - EDITS_MAX ? findClosest(uppercaseName, longNames, EDITS_MAX) : undefined;

function belongsToOtherProgram(name: string, value: string): boolean {
  if (otherProgramNames.has(name.toUpperCase()) || SERVICE_NAME.test(name)) return true;
  return name.endsWith("_PORT") && SERVICE_URL.test(value);
}

/**
 * Returns a warning for each misspelled name. Values aren't included.
 * @param isFromFile whether a name comes from `.env`.
 * @param servers the configured servers, which have their own settings.
 */
export function findUnknownNames(
  environment: Environment,
  isFromFile: (name: string) => boolean = () => false,
  servers: NamedServers = {},
): string[] {
  const unknownNames = listUnknownNames(environment, servers);
  const messages = unknownNames.slice(0, UNKNOWN_LOGGED_MAX).map(({ name, remedy }) => {
    const origin = isFromFile(name) ? " in .env" : "";
    const printableName = JSON.stringify(name).slice(1, -1).slice(0, 100);
    return `${printableName}${origin} is not a Parley setting and has no effect; ${remedy}`;
  });
  const omittedCount = unknownNames.length - messages.length;
  return omittedCount > 0
    ? [...messages, `${omittedCount} more variables are not Parley settings either; correct or remove them.`]
    : messages;
}
