import { FormatRegistry, type Static, type TSchema, Type } from "@sinclair/typebox";
import { isNetwork } from "../lib/network.ts";
import { parsePrices } from "../lib/parse-prices.ts";
import { OneOf } from "../lib/schema.ts";
import { backupSettings } from "./backup.ts";
import { networkSettings } from "./network.ts";
import { apiKeySetting, builtInProviderSettings } from "./provider-settings.ts";
import { describeDefaultModels, isProviderEntry, PROVIDERS_MAX } from "./providers.ts";
import { importSettings, quotaSettings } from "./quotas.ts";
import { rateLimitSettings } from "./rate-limits.ts";
import { searchSettings } from "./search.ts";
import type { SettingOptions } from "./setting-options.ts";
import { timeLimitSettings } from "./time-limits.ts";
import { tracingSettings } from "./tracing.ts";
import { webhookSettings } from "./webhooks.ts";

export type { SettingOptions } from "./setting-options.ts";

const optionalString = (
  options: SettingOptions & { minLength?: number; pattern?: string; format?: "http-url" | "prices" },
) => Type.Optional(Type.String({ minLength: 1, ...options }));
const stringWithDefault = (options: SettingOptions & { default: string; format?: "host" }) =>
  Type.String({ minLength: 1, ...options });
const integer = (options: SettingOptions & { default: number; minimum: number; maximum: number }) =>
  Type.Integer(options);
const optionalLimit = (options: SettingOptions & { minimum?: number; maximum?: number }) =>
  Type.Optional(Type.Integer({ minimum: 1, maximum: 1e15, ...options }));
const optionalUsdLimit = (options: SettingOptions) =>
  Type.Optional(Type.Number({ minimum: 0, maximum: 1e9, ...options }));
const stringList = (
  itemOptions: { pattern?: string; format?: "origin" | "network" | "mcp-server" | "provider" },
  options: SettingOptions,
) => Type.Array(Type.String(itemOptions), { ...options, default: [] });

// Guarantees that values can be passed to `new URL`.
FormatRegistry.Set("http-url", (value) => /^https?:\/\/\S+$/.test(value) && URL.canParse(value));
FormatRegistry.Set("prices", (value) => parsePrices(value) !== null);
FormatRegistry.Set("network", isNetwork);
FormatRegistry.Set(
  "mcp-server",
  (value) =>
    /^[a-z][a-z0-9-]{0,23}=https?:\/\/\S+$/.test(value) &&
    URL.canParse(value.slice(value.indexOf("=") + 1)) &&
    // Rejects two servers separated by a semicolon.
    !/;\s*[a-z][a-z0-9-]*=https?:/.test(value),
);
// A name or IP address without scheme or port. Whether the address exists is checked when the server starts to listen.
FormatRegistry.Set("host", (value) => !value.includes("/") && !/^[^:]*:\d+$/.test(value));
// Exactly one origin: no wildcard, user or path.
FormatRegistry.Set("origin", (value) => /^https?:\/\/[^/\s*@?#\\;]+$/.test(value) && URL.canParse(value));
FormatRegistry.Set("provider", isProviderEntry);

/** All settings. Their validation, types, `.env.example` and documentation are derived from this object. */
export const settings = Type.Object({
  APP_ENV: OneOf(["development", "staging", "production"], {
    default: "development",
    description:
      "The environment of this instance. In development, `.env` is read. Outside production, registration is open by default.",
  }),
  HOST: stringWithDefault({ format: "host", default: "0.0.0.0", description: "Address to listen on." }),
  PORT: integer({ default: 3000, minimum: 0, maximum: 65535, description: "Port to listen on; 0 picks a free one." }),
  PUBLIC_URL: optionalString({
    format: "http-url",
    example: "https://chat.example.com",
    description: "The URL at which clients reach Parley. Used in links and in the API descriptions.",
  }),
  DATA_DIR: stringWithDefault({
    default: "./data",
    description: "Folder for the embedded Postgres and generated secrets.",
  }),
  DATABASE_URL: optionalString({
    pattern: "^postgres(ql)?://\\S+$",
    secret: true,
    isUrl: true,
    example: "postgres://parley:password@db.example.com:5432/parley",
    description: "Postgres server, version 15 or newer. If unset, the embedded Postgres in `DATA_DIR` is used.",
  }),
  DATABASE_POOL_SIZE: integer({
    default: 10,
    minimum: 2,
    maximum: 500,
    description:
      "Maximum database connections for reads. Up to 24 more are opened when needed. See Connections in `docs/operations.md`.",
  }),
  DATABASE_SLOW_QUERY_MS: integer({
    default: 1000,
    minimum: 0,
    maximum: 600_000,
    description: "Statements that take at least this long are logged, without their parameters. 0 logs none.",
  }),
  REDIS_URL: optionalString({
    pattern: "^rediss?://\\S+$",
    secret: true,
    isUrl: true,
    example: "redis://redis.example.com:6379",
    description:
      "Redis, Valkey or a node of a cluster. Several instances share rate limits and exchange messages through it. If it is unset " +
      "or unreachable, instances exchange messages through Postgres, and each one counts limits separately.",
  }),
  JWT_SECRET: optionalString({
    secret: true,
    description:
      "Secret for signing access tokens, 32 bytes or more. Required in production. In other environments, if it is unset, a secret " +
      "is generated and stored in `DATA_DIR`.",
  }),
  ADMIN_EMAIL: optionalString({
    pattern: "^\\S+@\\S+$",
    description:
      "Email of the administrator to create at startup if none exists. An existing account with this email is never changed.",
  }),
  ADMIN_PASSWORD: optionalString({
    minLength: 8,
    secret: true,
    description: "Password of that administrator: 8 to 128 characters, and not a common password.",
  }),
  OPENAI_API_KEY: apiKeySetting("Key for the `openai` provider."),
  OPENAI_BASE_URL: optionalString({
    format: "http-url",
    description: "Overrides the base URL of the `openai` provider.",
  }),
  ANTHROPIC_API_KEY: apiKeySetting("Key for the `anthropic` provider."),
  ANTHROPIC_BASE_URL: optionalString({
    format: "http-url",
    description: "Overrides the base URL of the `anthropic` provider.",
  }),
  COMPATIBLE_API_KEY: apiKeySetting("Key for the `compatible` provider, if its server requires one."),
  COMPATIBLE_BASE_URL: optionalString({
    format: "http-url",
    example: "http://localhost:11434/v1",
    description:
      "Base URL of the `compatible` provider: any OpenAI-compatible server, such as Ollama, vLLM or llama.cpp. A `user:password@` " +
      "in it is sent as basic authentication.",
  }),
  AI_PROVIDERS: stringList(
    { format: "provider" },
    {
      // A URL may contain a key.
      secret: true,
      isUrl: true,
      example: "ollama=http://localhost:11434/v1,groq=https://api.groq.com/openai/v1",
      description:
        `Additional OpenAI-compatible servers as \`name=base_url\`, comma-separated, at most ${PROVIDERS_MAX}. Their models are called ` +
        "`name/model`. A name has 1 to 32 characters: a-z, 0-9 and `-`. See `docs/providers.md`.",
    },
  ),
  AI_MODELS: stringList(
    // src/config/provider-problems.ts checks whether the provider exists.
    { pattern: "^(?!\\[)[^\\s;\"']+$" },
    {
      example: "openai/gpt-5.2,anthropic/claude-sonnet-4-6",
      description:
        `Models as \`provider/name\`, comma-separated, in fallback order. If unset, each key adds a model: ${describeDefaultModels()}. ` +
        "If neither key is set, `offline/documents` is used.",
    },
  ),
  ...timeLimitSettings,
  ...builtInProviderSettings,
  AI_MAX_RETRIES: integer({
    default: 2,
    minimum: 0,
    maximum: 10,
    description: "Maximum retries of a model before the next one takes over.",
  }),
  AI_REASONING: OneOf(["store", "stream", "off"], {
    default: "store",
    description:
      "Whether to show the reasoning of models. `store` sends it to readers and stores it with the answer. `stream` sends it, but " +
      "doesn't store it. `off` does neither. Reasoning tokens always count toward usage and cost.",
  }),
  AI_CONTEXT_TOKENS: optionalLimit({
    minimum: 500,
    maximum: 10_000_000,
    description:
      "Maximum tokens of a conversation to send to a model; older messages are summarized. If unset, it is 64000, or 12000 for models " +
      "with an unknown context window. For your own model, use its context window minus the length of its longest answer.",
  }),
  AI_PRICES: optionalString({
    format: "prices",
    example: "compatible/llama3.2=0/0,openai/gpt-5.2=1.75/14/0.175",
    description:
      "Prices in USD per million tokens, as `model=input/output[/cached_input[/cache_write]]` or as JSON. They override the " +
      "built-in prices. Missing cache prices default to the price of `input`.",
  }),
  BUDGET_USER_TOKENS_PER_DAY: optionalLimit({
    description: "Maximum tokens that a user may use per day (UTC). If unset, there is no limit.",
  }),
  BUDGET_USER_TOKENS_PER_MONTH: optionalLimit({ description: "Same as above, per month." }),
  BUDGET_USER_USD_PER_DAY: optionalUsdLimit({
    description: "Maximum cost in US dollars of a user's answers per day (UTC). If unset, there is no limit.",
  }),
  BUDGET_USER_USD_PER_MONTH: optionalUsdLimit({ description: "Same as above, per month." }),
  BUDGET_KEY_TOKENS_PER_DAY: optionalLimit({
    description:
      "Maximum tokens that an API key may use per day (UTC). Its user's budget also applies. If unset, there is no limit.",
  }),
  BUDGET_KEY_TOKENS_PER_MONTH: optionalLimit({ description: "Same as above, per month." }),
  BUDGET_KEY_USD_PER_DAY: optionalUsdLimit({
    description: "Maximum cost in US dollars of an API key's answers per day (UTC). If unset, there is no limit.",
  }),
  BUDGET_KEY_USD_PER_MONTH: optionalUsdLimit({ description: "Same as above, per month." }),
  BUDGET_ANSWER_TOKENS: integer({
    default: 4_096,
    minimum: 1,
    maximum: 1_000_000,
    description: "Maximum tokens per answer if a budget is set. They are reserved until the answer is complete.",
  }),
  MCP_SERVERS: stringList(
    { format: "mcp-server" },
    {
      // A URL may contain a key.
      secret: true,
      isUrl: true,
      example: "wiki=https://mcp.example.com/mcp",
      description: "MCP servers (streamable HTTP) whose tools models may call, as `name=url`, comma-separated.",
    },
  ),
  DOCUMENTS_DIR: optionalString({
    description: "Folder with the Markdown files that `/documents` serves. If unset, it serves Parley's documentation.",
  }),
  CORS_ORIGINS: stringList(
    { format: "origin" },
    {
      example: "https://app.example.com",
      description:
        "Origins of web pages that may send requests, comma-separated, without wildcards. Parley's own origin is always allowed. If " +
        "unset, no other origins are allowed, except in development, where all origins on this machine (`http://localhost:*`) are " +
        "allowed.",
    },
  ),
  TRUSTED_PROXIES: stringList(
    { format: "network" },
    {
      example: "10.0.0.0/8",
      description: "Addresses or networks of proxies whose `X-Forwarded-For` is trusted, comma-separated.",
    },
  ),
  TLS_CERT_FILE: optionalString({
    description:
      "Certificate chain (PEM, the server's own certificate first) for serving https and wss directly. Reloaded on SIGHUP.",
  }),
  TLS_KEY_FILE: optionalString({ description: "Private key (PEM, without a passphrase) for `TLS_CERT_FILE`." }),
  HTTP2: OneOf(["on", "off"], {
    default: "on",
    description: "Whether to offer HTTP/2 in addition to HTTP/1.1 if `TLS_CERT_FILE` is set.",
  }),
  ...networkSettings,
  ...rateLimitSettings,
  ...quotaSettings,
  ...searchSettings,
  ...importSettings,
  ...webhookSettings,
  METRICS_TOKEN: optionalString({
    pattern: "^[\\w.~+/=-]+$",
    secret: true,
    protectsAccess: true,
    description:
      "Bearer token required for `/metrics` (letters, digits and `._~+/=-`). If unset, `/metrics` requires no authentication.",
  }),
  ...tracingSettings,
  LOG_LEVEL: OneOf(["trace", "debug", "info", "warn", "error", "fatal", "silent"], {
    default: "info",
    description: "Lowest level to log.",
  }),
  LOG_FORMAT: Type.Optional(
    OneOf(["json", "pretty"], {
      description:
        "JSON lines, or human-readable lines. If unset, it is `pretty` on a terminal in development, otherwise `json`.",
    }),
  ),
  REGISTRATION: Type.Optional(
    OneOf(["open", "closed"], {
      description: "Whether anyone may register. If unset, it is `closed` in production, otherwise `open`.",
    }),
  ),
  REGISTRATION_PRIVACY: OneOf(["on", "off"], {
    default: "off",
    description:
      "Whether to hide who has an account. If `on`, registration and email changes don't reveal which emails have accounts. See " +
      "`docs/security.md`.",
  }),
  MEMBER_BY_EMAIL: Type.Optional(
    OneOf(["on", "off"], {
      description:
        "Whether owners of a conversation may add users by email address. If unset, it is `off` with `REGISTRATION_PRIVACY=on`, " +
        "otherwise `on`.",
    }),
  ),
  OIDC_ISSUER: optionalString({
    format: "http-url",
    example: "https://login.example.com/realms/main",
    description:
      "OpenID Connect issuer whose tokens users can log in with, exactly as in the tokens' `iss`. See `docs/oidc.md`.",
  }),
  OIDC_AUDIENCE: stringList(
    { pattern: "^[^;]+$" },
    {
      example: "parley",
      description:
        "Accepted values of the tokens' `aud`, comma-separated. A token needs one of them. Required with `OIDC_ISSUER`.",
    },
  ),
  OIDC_JWKS_URL: optionalString({
    format: "http-url",
    description:
      "URL of the issuer's keys. If unset, it is taken from the issuer's `/.well-known/openid-configuration`.",
  }),
  OIDC_PROVISION: OneOf(["on", "off"], {
    default: "on",
    description:
      "Whether an account is created at a user's first login with a token from `OIDC_ISSUER`, regardless of `REGISTRATION`. If `off`, " +
      "only users with a linked account can log in.",
  }),
  READ_CACHE: OneOf(["on", "off"], {
    default: "on",
    description:
      "Whether to cache frequent reads: conversations, short histories, prompts and the list of documents. If `off`, each read " +
      "queries the database.",
  }),
  AUDIT_RETENTION_DAYS: integer({
    default: 365,
    minimum: 1,
    maximum: 36_500,
    description: "Number of days for which audit log entries are kept.",
  }),
  ...backupSettings,
  SHUTDOWN_TIMEOUT_MS: integer({
    default: 25_000,
    minimum: 0,
    maximum: 600_000,
    description: "Maximum duration of a graceful shutdown after SIGTERM.",
  }),
});

export type Settings = Static<typeof settings>;

export const settingEntries = Object.entries(settings.properties) as [
  keyof Settings & string,
  TSchema & SettingOptions,
][];
