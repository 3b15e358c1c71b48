import { settingEntries } from "./settings.ts";
import { findClosest } from "./spelling.ts";

type Environment = Record<string, string | undefined>;

/** Names that begin so are meant for Parley, whatever follows. */
const ownPrefixes = ["AI_", "RATE_LIMIT_", "OIDC_", "BUDGET_", "WEBHOOK_", "COMPATIBLE_", "QUOTA_"];
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
  "API_KEY",
  "BASE_URL",
  "DATABASE_SSL",
  "CERT_FILE",
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

/** What Kubernetes gives a container for each service of its namespace: a service may be called `ai` or `webhook`. */
const serviceName =
  /^[A-Z][A-Z0-9_]*_(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)$/;
const servicePort = /^(?:tcp|udp|sctp):\/\//;

const names = settingEntries.map(([name]) => name as string);
const fileNames = settingEntries.flatMap(([name, schema]) => (schema.secret ? [`${name}_FILE`] : []));
const known = new Set([...names, ...fileNames]);
const longNames = [...known].filter((name) => name.length >= NAME_LENGTH_MIN);
/** Ours without one of their words, with the whole name. A single word that is left means nothing. */
const shortened = new Map([...shorten(fileNames, 3), ...shorten(names, 2)]);

function shorten(wholes: readonly string[], wordsMin: number): [string, string][] {
  return wholes.flatMap((whole) => {
    const words = whole.split("_");
    if (words.length <= wordsMin) return [];
    return words.map((_, left): [string, string] => [words.filter((_, index) => index !== left).join("_"), whole]);
  });
}

/** Names in the environment that are most likely meant for Parley, but that it does not know, each with the likeliest one. */
function listUnknownNames(environment: Environment): { name: string; meant: string | undefined }[] {
  const unknown: { name: string; meant: string | undefined }[] = [];
  for (const [name, value = ""] of Object.entries(environment)) {
    if (known.has(name) || isForeign(name, value)) continue;
    const upper = name.toUpperCase();
    const close = upper.length >= NAME_LENGTH_MIN - EDITS_MAX ? findClosest(upper, longNames, EDITS_MAX) : undefined;
    const meant = close ?? shortened.get(upper);
    if (meant !== undefined) unknown.push({ name, meant });
    else if (ownPrefixes.some((prefix) => name.startsWith(prefix))) unknown.push({ name, meant });
  }
  return unknown;
}

function isForeign(name: string, value: string): boolean {
  if (foreignNames.has(name) || serviceName.test(name)) return true;
  return name.endsWith("_PORT") && servicePort.test(value);
}

/**
 * A warning for each name that is misspelt, without its value.
 * @param isFromFile whether a name stands in `.env`.
 */
export function findUnknownNames(
  environment: Environment,
  isFromFile: (name: string) => boolean = () => false,
): string[] {
  const unknown = listUnknownNames(environment);
  const told = unknown.slice(0, UNKNOWN_TOLD_MAX).map(({ name, meant }) => {
    const where = isFromFile(name) ? " in .env" : "";
    const shown = JSON.stringify(name).slice(1, -1).slice(0, 100);
    const remedy = meant ? `did you mean ${meant}?` : "remove it, or look for its name in `parley config`.";
    return `${shown}${where} is not a setting of Parley and has no effect; ${remedy}`;
  });
  const left = unknown.length - told.length;
  return left > 0
    ? [...told, `${left} more names like these are no settings of Parley either; correct or remove them.`]
    : told;
}
