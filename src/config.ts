import { FormatRegistry, type Static, type TSchema, Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import { isNetwork } from "./lib/network.ts";
import { findPrice, mergePrices, parsePrices } from "./lib/prices.ts";
import { OneOf } from "./lib/schema.ts";

type SettingOptions = {
  description: string;
  /** Sample value for `.env.example`. */
  example?: string;
  /** Masked in every print, and readable from the file named by `NAME_FILE`. */
  secret?: boolean;
};

const text = (options: SettingOptions & { minLength?: number; pattern?: string; format?: "http-url" | "prices" }) =>
  Type.Optional(Type.String({ minLength: 1, ...options }));
const textWithDefault = (options: SettingOptions & { default: string }) => Type.String({ minLength: 1, ...options });
const integer = (options: SettingOptions & { default: number; minimum: number; maximum: number }) =>
  Type.Integer(options);
const limit = (options: SettingOptions & { minimum?: number; maximum?: number }) =>
  Type.Optional(Type.Integer({ minimum: 1, maximum: 1e15, ...options }));
const usdLimit = (options: SettingOptions) => Type.Optional(Type.Number({ minimum: 0, maximum: 1e9, ...options }));
const listOf = (form: { pattern?: string; format?: "origin" | "network" | "mcp-server" }, options: SettingOptions) =>
  Type.Array(Type.String(form), { ...options, default: [] });

// What passes can be handed to `new URL`.
FormatRegistry.Set("http-url", (value) => /^https?:\/\/\S+$/.test(value) && URL.canParse(value));
FormatRegistry.Set("prices", (value) => parsePrices(value) !== null);
FormatRegistry.Set("network", isNetwork);
FormatRegistry.Set(
  "mcp-server",
  (value) => /^[a-z][a-z0-9-]{0,23}=https?:\/\/\S+$/.test(value) && URL.canParse(value.slice(value.indexOf("=") + 1)),
);
FormatRegistry.Set("origin", (value) => /^https?:\/\/[^/\s]+$/.test(value) && URL.canParse(value));
const modelName = "^(openai|anthropic|compatible|offline)/\\S+$";

/** Every setting there is. The same table validates, types, and prints `.env.example` and the docs. */
export const settings = Type.Object({
  APP_ENV: OneOf(["development", "staging", "production"], {
    default: "development",
    description: "What this instance is for. `.env` is read, and registration is open by default, outside production.",
  }),
  HOST: textWithDefault({ default: "0.0.0.0", description: "Address to listen on." }),
  PORT: integer({ default: 3000, minimum: 0, maximum: 65535, description: "Port to listen on; 0 takes a free one." }),
  PUBLIC_URL: text({
    format: "http-url",
    example: "https://chat.example.com",
    description: "The address under which clients reach Parley; used in links and documents.",
  }),
  DATA_DIR: textWithDefault({
    default: "./data",
    description: "Folder for the embedded Postgres and generated secrets.",
  }),
  DATABASE_URL: text({
    pattern: "^postgres(ql)?://\\S+$",
    secret: true,
    example: "postgres://parley:password@db.example.com:5432/parley",
    description: "Postgres 15 or newer. Absent: the embedded Postgres in `DATA_DIR`.",
  }),
  DATABASE_POOL_SIZE: integer({
    default: 10,
    minimum: 2,
    maximum: 500,
    description: "Database connections of this instance.",
  }),
  JWT_SECRET: text({
    secret: true,
    description: "Signs access tokens, 32 bytes or more. Generated and kept in `DATA_DIR` outside production.",
  }),
  ADMIN_EMAIL: text({ pattern: "^\\S+@\\S+$", description: "Administrator made at the first start." }),
  ADMIN_PASSWORD: text({
    minLength: 8,
    secret: true,
    description: "Password of that administrator, 8 characters or more.",
  }),
  OPENAI_API_KEY: text({ secret: true, description: "Key for the `openai` provider." }),
  OPENAI_BASE_URL: text({ format: "http-url", description: "Other base URL for the `openai` provider." }),
  ANTHROPIC_API_KEY: text({ secret: true, description: "Key for the `anthropic` provider." }),
  ANTHROPIC_BASE_URL: text({ format: "http-url", description: "Other base URL for the `anthropic` provider." }),
  COMPATIBLE_API_KEY: text({
    secret: true,
    description: "Key for the `compatible` provider, if its server wants one.",
  }),
  COMPATIBLE_BASE_URL: text({
    format: "http-url",
    example: "http://localhost:11434/v1",
    description: "Any OpenAI-compatible server: Ollama, vLLM, llama.cpp.",
  }),
  AI_MODELS: listOf(
    { pattern: modelName },
    {
      example: "openai/gpt-5.2,anthropic/claude-sonnet-4-6",
      description: "Models as `provider/name`, comma-separated, in fallback order. Absent: `offline/documents`.",
    },
  ),
  AI_FIRST_TOKEN_TIMEOUT_MS: integer({
    default: 30_000,
    minimum: 100,
    maximum: 600_000,
    description: "A model that has said nothing for so long has failed.",
  }),
  AI_IDLE_TIMEOUT_MS: integer({
    default: 30_000,
    minimum: 100,
    maximum: 600_000,
    description: "A model that falls silent for so long in the middle of an answer has failed.",
  }),
  AI_MAX_RETRIES: integer({
    default: 2,
    minimum: 0,
    maximum: 10,
    description: "Retries of one model before the next one is asked.",
  }),
  AI_CONTEXT_TOKENS: limit({
    minimum: 500,
    maximum: 10_000_000,
    description:
      "Most tokens of a conversation that a model is shown; older ones are summarised. Absent: 64000, and 12000 for " +
      "models whose window Parley does not know. Set it to the window of your own model, less its longest answer.",
  }),
  AI_PRICES: text({
    format: "prices",
    example: "compatible/llama3.2=0/0,openai/gpt-5.2=1.75/14",
    description:
      "Prices in USD per million tokens, as `model=input/output` or as JSON; they go before the built-in ones.",
  }),
  BUDGET_USER_TOKENS_PER_DAY: limit({ description: "Tokens that one user may use in a day (UTC). Absent: no limit." }),
  BUDGET_USER_TOKENS_PER_MONTH: limit({ description: "The same for a month." }),
  BUDGET_USER_USD_PER_DAY: usdLimit({
    description: "US dollars that one user's answers may cost in a day (UTC). Absent: no limit.",
  }),
  BUDGET_USER_USD_PER_MONTH: usdLimit({ description: "The same for a month." }),
  BUDGET_ANSWER_TOKENS: integer({
    default: 4_096,
    minimum: 1,
    maximum: 1_000_000,
    description: "Where a budget is set: the most tokens of one answer, which are reserved until it ends.",
  }),
  MCP_SERVERS: listOf(
    { format: "mcp-server" },
    {
      // An address may hold a key.
      secret: true,
      example: "wiki=https://mcp.example.com/mcp",
      description:
        "MCP servers (streamable HTTP) whose tools models may call, as `name=url`, comma-separated. Absent: none.",
    },
  ),
  DOCUMENTS_DIR: text({ description: "Folder of markdown files behind `/documents`. Absent: Parley's own docs." }),
  CORS_ORIGINS: listOf(
    { format: "origin" },
    {
      example: "https://app.example.com",
      description: "Origins of browsers that may call, exact, comma-separated. The own origin always may.",
    },
  ),
  TRUSTED_PROXIES: listOf(
    { format: "network" },
    {
      example: "10.0.0.0/8",
      description: "Addresses or networks whose `X-Forwarded-For` is believed, comma-separated.",
    },
  ),
  TLS_CERT_FILE: text({ description: "Certificate chain (PEM) to serve https and wss directly." }),
  TLS_KEY_FILE: text({ description: "Private key (PEM) of that certificate." }),
  METRICS_TOKEN: text({
    pattern: "^[\\w.~+/=-]+$",
    secret: true,
    description: "Bearer token that `/metrics` asks for (letters, digits and `._~+/=-`). Absent: open.",
  }),
  LOG_LEVEL: OneOf(["trace", "debug", "info", "warn", "error", "fatal", "silent"], {
    default: "info",
    description: "Least severe level that is logged.",
  }),
  LOG_FORMAT: OneOf(["json", "pretty"], { default: "json", description: "JSON lines, or lines for people." }),
  REGISTRATION: Type.Optional(
    OneOf(["open", "closed"], {
      description: "Whether anyone may register. Absent: open, in production closed.",
    }),
  ),
  SHUTDOWN_TIMEOUT_MS: integer({
    default: 25_000,
    minimum: 0,
    maximum: 600_000,
    description: "Longest time from SIGTERM to exit.",
  }),
});

type Settings = Static<typeof settings>;

/** The checked, frozen configuration. Names are those of the environment, so that a search finds every use. */
export type Config = Readonly<Settings & { REGISTRATION: "open" | "closed" }>;

export class ConfigError extends Error {
  constructor(readonly problems: string[]) {
    super(problems.join("\n"));
    this.name = "ConfigError";
  }
}

type Environment = Record<string, string | undefined>;
type ReadFile = (path: string) => string;

const settingEntries = Object.entries(settings.properties) as [keyof Settings & string, TSchema & SettingOptions][];

/**
 * Builds the configuration out of environment variables.
 * @throws ConfigError with every error found, one sentence each.
 */
export function loadConfig(
  environment: Environment,
  readFile: ReadFile,
  isFolder: (path: string) => boolean = () => true,
): Config {
  const problems: string[] = [];
  const values: Record<string, unknown> = {};
  for (const [name, schema] of settingEntries) {
    const raw = readRaw(name, schema, environment, readFile, problems);
    const value = raw === undefined ? schema.default : parseSetting(schema, raw);
    if (value === undefined) continue;
    values[name] = value;
    const wrong = new Set([...Value.Errors(schema, value)].map((error) => error.value));
    for (const part of wrong) problems.push(`${name}: ${describeError(schema, part)}`);
  }
  const config = values as Settings;
  problems.push(...findContradictions(config), ...findMissingFiles(config, readFile, isFolder));
  if (problems.length > 0) throw new ConfigError(problems);
  const REGISTRATION = config.REGISTRATION ?? (config.APP_ENV === "production" ? "closed" : "open");
  return Object.freeze({ ...config, REGISTRATION });
}

function readRaw(
  name: string,
  schema: SettingOptions,
  environment: Environment,
  readFile: ReadFile,
  problems: string[],
): string | undefined {
  const direct = environment[name]?.trim() || undefined;
  const file = schema.secret ? environment[`${name}_FILE`] : undefined;
  if (!file) return direct;
  if (direct) problems.push(`${name} and ${name}_FILE are both set; keep one of them.`);
  try {
    return readFile(file).trim() || undefined;
  } catch {
    problems.push(`${name}_FILE: the file cannot be read.`);
    return undefined;
  }
}

function parseSetting(schema: TSchema, raw: string): unknown {
  if (schema.type === "integer") return /^-?\d+$/.test(raw) ? Number(raw) : raw;
  if (schema.type === "number") return /^\d+(\.\d+)?$/.test(raw) ? Number(raw) : raw;
  if (schema.type !== "array") return raw;
  return raw
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
}

function describeError(schema: TSchema & SettingOptions, value: unknown): string {
  const shown = schema.secret ? "the value" : JSON.stringify(value);
  if (schema.type === "integer") return `${shown} is not a whole number from ${schema.minimum} to ${schema.maximum}.`;
  if (schema.type === "number") return `${shown} is not a number from ${schema.minimum} to ${schema.maximum}.`;
  if (schema.enum) return `${shown} is not one of ${schema.enum.join(", ")}.`;
  if (schema.minLength > 1) return `${shown} is shorter than ${schema.minLength} characters.`;
  const form = schema.example ? ` (like ${schema.example})` : "";
  return `${shown} does not have the expected form${form}.`;
}

const providerNeeds = {
  openai: "OPENAI_API_KEY",
  anthropic: "ANTHROPIC_API_KEY",
  compatible: "COMPATIBLE_BASE_URL",
} as const;

const JWT_SECRET_BYTES_MIN = 32;

function findContradictions(config: Settings): string[] {
  const problems: string[] = [];
  if (config.APP_ENV === "production" && !config.JWT_SECRET)
    problems.push("JWT_SECRET: required in production; set it to 32 random bytes (openssl rand -base64 32).");
  if (config.JWT_SECRET && Buffer.byteLength(config.JWT_SECRET) < JWT_SECRET_BYTES_MIN)
    problems.push(`JWT_SECRET: the value is shorter than ${JWT_SECRET_BYTES_MIN} bytes (openssl rand -base64 32).`);
  if (Boolean(config.ADMIN_EMAIL) !== Boolean(config.ADMIN_PASSWORD))
    problems.push("ADMIN_EMAIL and ADMIN_PASSWORD: set both or neither.");
  if (Boolean(config.TLS_CERT_FILE) !== Boolean(config.TLS_KEY_FILE))
    problems.push("TLS_CERT_FILE and TLS_KEY_FILE: set both or neither.");
  const serverNames = config.MCP_SERVERS.map((server) => server.slice(0, server.indexOf("=")));
  if (new Set(serverNames).size < serverNames.length)
    problems.push("MCP_SERVERS: two servers have the same name; give each a name of its own.");
  for (const [provider, needed] of Object.entries(providerNeeds))
    if (config.AI_MODELS.some((model) => model.startsWith(`${provider}/`)) && !config[needed as keyof Settings])
      problems.push(`AI_MODELS names a model of ${provider}, but ${needed} is not set.`);
  problems.push(...findBudgetContradictions(config));
  return problems;
}

/** A budget that no answer fits into, or whose spending cannot be known. */
function findBudgetContradictions(config: Settings): string[] {
  const problems: string[] = [];
  for (const name of ["BUDGET_USER_TOKENS_PER_DAY", "BUDGET_USER_TOKENS_PER_MONTH"] as const) {
    const tokens = config[name];
    // What is no whole number above 0 has been refused already.
    if (Number.isSafeInteger(tokens) && Number(tokens) > 0 && Number(tokens) <= config.BUDGET_ANSWER_TOKENS)
      problems.push(`${name}: no answer fits into it, because BUDGET_ANSWER_TOKENS is ${config.BUDGET_ANSWER_TOKENS}.`);
  }
  const hasUsdLimit = config.BUDGET_USER_USD_PER_DAY !== undefined || config.BUDGET_USER_USD_PER_MONTH !== undefined;
  if (!hasUsdLimit || !parsePrices(config.AI_PRICES ?? "")) return problems;
  const prices = mergePrices(config.AI_PRICES);
  for (const model of config.AI_MODELS)
    if (!findPrice(model, prices))
      problems.push(`AI_PRICES: the price of ${model} is not known, but a budget in USD is set; add it.`);
  return problems;
}

function findMissingFiles(config: Settings, readFile: ReadFile, isFolder: (path: string) => boolean): string[] {
  const problems: string[] = [];
  for (const name of ["TLS_CERT_FILE", "TLS_KEY_FILE"] as const) {
    const path = config[name];
    if (path !== undefined && !canRead(path, readFile)) problems.push(`${name}: the file ${path} cannot be read.`);
  }
  if (config.DOCUMENTS_DIR !== undefined && !isFolder(config.DOCUMENTS_DIR))
    problems.push(`DOCUMENTS_DIR: ${config.DOCUMENTS_DIR} is not a folder that can be read.`);
  return problems;
}

function canRead(path: string, readFile: ReadFile): boolean {
  try {
    readFile(path);
    return true;
  } catch {
    return false;
  }
}

/** The effective configuration as lines `NAME=value`, secrets masked. */
export function printConfig(config: Config): string {
  return settingEntries
    .map(([name, schema]) => {
      const value = config[name];
      if (value === undefined) return `# ${name} is not set`;
      const isHidden = schema.secret && !(Array.isArray(value) && value.length === 0);
      const shown = isHidden ? "********" : Array.isArray(value) ? value.join(",") : String(value);
      return `${name}=${shown}`;
    })
    .join("\n");
}

/** The text of `.env.example`. */
export function printEnvExample(): string {
  const blocks = settingEntries.map(([name, schema]) => {
    const value = schema.example ?? showDefault(schema);
    return `# ${schema.description}\n# ${name}=${value}`;
  });
  return `# Every setting of Parley, with its default or a sample. Made by \`make docs\`; do not edit.\n\n${blocks.join("\n\n")}\n`;
}

/** The settings as a markdown table, for the docs. */
export function printConfigTable(): string {
  const rows = settingEntries.map(([name, schema]) => {
    const file = schema.secret ? ` (or \`${name}_FILE\`)` : "";
    const fallback = showDefault(schema);
    return `| \`${name}\`${file} | ${fallback ? `\`${fallback}\`` : ""} | ${schema.description.replaceAll("|", "\\|")} |`;
  });
  return ["| name | default | meaning |", "| --- | --- | --- |", ...rows].join("\n");
}

function showDefault(schema: TSchema): string {
  if (schema.default === undefined) return "";
  return Array.isArray(schema.default) ? schema.default.join(",") : String(schema.default);
}
