import { FormatRegistry, type Static, type TSchema, Type } from "@sinclair/typebox";
import { isNetwork } from "../lib/network.ts";
import { parsePrices } from "../lib/parse-prices.ts";
import { OneOf } from "../lib/schema.ts";
import { backupSettings } from "./backup.ts";
import { networkSettings } from "./network.ts";
import { apiKey, builtInProviderSettings } from "./provider-settings.ts";
import { describeDefaultModels, isProvider, PROVIDERS_MAX } from "./providers.ts";
import { importSettings, quotaSettings } from "./quotas.ts";
import { rateLimitSettings } from "./rate-limits.ts";
import { searchSettings } from "./search.ts";
import type { SettingOptions } from "./setting-options.ts";
import { timeLimitSettings } from "./time-limits.ts";
import { tracingSettings } from "./tracing.ts";
import { webhookSettings } from "./webhooks.ts";

export type { SettingOptions } from "./setting-options.ts";

const text = (options: SettingOptions & { minLength?: number; pattern?: string; format?: "http-url" | "prices" }) =>
  Type.Optional(Type.String({ minLength: 1, ...options }));
const textWithDefault = (options: SettingOptions & { default: string; format?: "host" }) =>
  Type.String({ minLength: 1, ...options });
const integer = (options: SettingOptions & { default: number; minimum: number; maximum: number }) =>
  Type.Integer(options);
const limit = (options: SettingOptions & { minimum?: number; maximum?: number }) =>
  Type.Optional(Type.Integer({ minimum: 1, maximum: 1e15, ...options }));
const usdLimit = (options: SettingOptions) => Type.Optional(Type.Number({ minimum: 0, maximum: 1e9, ...options }));
const listOf = (
  form: { pattern?: string; format?: "origin" | "network" | "mcp-server" | "provider" },
  options: SettingOptions,
) => Type.Array(Type.String(form), { ...options, default: [] });

// Guarantees that values can be passed to `new URL`.
FormatRegistry.Set("http-url", (value) => /^https?:\/\/\S+$/.test(value) && URL.canParse(value));
FormatRegistry.Set("prices", (value) => parsePrices(value) !== null);
FormatRegistry.Set("network", isNetwork);
FormatRegistry.Set(
  "mcp-server",
  (value) =>
    /^[a-z][a-z0-9-]{0,23}=https?:\/\/\S+$/.test(value) &&
    URL.canParse(value.slice(value.indexOf("=") + 1)) &&
    // Rejects two servers joined by a semicolon.
    !/;\s*[a-z][a-z0-9-]*=https?:/.test(value),
);
// A name or IP address without scheme or port. Whether it exists is checked when the server starts to listen.
FormatRegistry.Set("host", (value) => !value.includes("/") && !/^[^:]*:\d+$/.test(value));
// Exactly one origin: no wildcard, user or path.
FormatRegistry.Set("origin", (value) => /^https?:\/\/[^/\s*@?#\\;]+$/.test(value) && URL.canParse(value));
FormatRegistry.Set("provider", isProvider);

/** All settings. Their validation, types, `.env.example` and documentation come from this table. */
export const settings = Type.Object({
  APP_ENV: OneOf(["development", "staging", "production"], {
    default: "development",
    description:
      "The environment of this instance. Outside production, `.env` is read and registration is open by default.",
  }),
  HOST: textWithDefault({ format: "host", default: "0.0.0.0", description: "Address to listen on." }),
  PORT: integer({ default: 3000, minimum: 0, maximum: 65535, description: "Port to listen on; 0 picks a free one." }),
  PUBLIC_URL: text({
    format: "http-url",
    example: "https://chat.example.com",
    description: "The URL under which clients reach Parley; used in links and documents.",
  }),
  DATA_DIR: textWithDefault({
    default: "./data",
    description: "Folder for the embedded Postgres and generated secrets.",
  }),
  DATABASE_URL: text({
    pattern: "^postgres(ql)?://\\S+$",
    secret: true,
    isAddress: true,
    example: "postgres://parley:password@db.example.com:5432/parley",
    description: "Postgres 15 or newer. Absent: the embedded Postgres in `DATA_DIR`.",
  }),
  DATABASE_POOL_SIZE: integer({
    default: 10,
    minimum: 2,
    maximum: 500,
    description: "Database connections for reads; up to 24 more are opened when needed, see Connections.",
  }),
  DATABASE_SLOW_QUERY_MS: integer({
    default: 1000,
    minimum: 0,
    maximum: 600_000,
    description: "Statements that take at least this long are logged, without their parameters. 0: none.",
  }),
  REDIS_URL: text({
    pattern: "^rediss?://\\S+$",
    secret: true,
    isAddress: true,
    example: "redis://redis.example.com:6379",
    description:
      "Redis, Valkey or a node of a cluster, needed for rate limits shared by several instances; also carries their messages. Absent or " +
      "unreachable: instances exchange messages through Postgres, and each counts limits on its own.",
  }),
  JWT_SECRET: text({
    secret: true,
    description: "Signs access tokens, 32 bytes or more. Generated and kept in `DATA_DIR` outside production.",
  }),
  ADMIN_EMAIL: text({
    pattern: "^\\S+@\\S+$",
    description:
      "Administrator to create at startup if none exists. An existing account with this address is never changed.",
  }),
  ADMIN_PASSWORD: text({
    minLength: 8,
    secret: true,
    description: "Password of that administrator: 8 to 128 characters, and not a common password.",
  }),
  OPENAI_API_KEY: apiKey("Key for the `openai` provider."),
  OPENAI_BASE_URL: text({ format: "http-url", description: "Other base URL for the `openai` provider." }),
  ANTHROPIC_API_KEY: apiKey("Key for the `anthropic` provider."),
  ANTHROPIC_BASE_URL: text({ format: "http-url", description: "Other base URL for the `anthropic` provider." }),
  COMPATIBLE_API_KEY: apiKey("Key for the `compatible` provider, if its server wants one."),
  COMPATIBLE_BASE_URL: text({
    format: "http-url",
    example: "http://localhost:11434/v1",
    description:
      "URL of any OpenAI-compatible server: Ollama, vLLM, llama.cpp. A `user:password@` in it is sent as basic authentication.",
  }),
  AI_PROVIDERS: listOf(
    { format: "provider" },
    {
      // A URL may contain a key.
      secret: true,
      isAddress: true,
      example: "ollama=http://localhost:11434/v1,groq=https://api.groq.com/openai/v1",
      description:
        "Further OpenAI-compatible servers as `name=base_url`, comma-separated; their models are `name/model`. A name has 1 to " +
        `32 of a-z, 0-9 and \`-\`; at most ${PROVIDERS_MAX}. See \`docs/providers.md\`.`,
    },
  ),
  AI_MODELS: listOf(
    // Whether the provider exists is checked when AI_PROVIDERS has been read too.
    { pattern: "^(?!\\[)[^\\s;\"']+$" },
    {
      example: "openai/gpt-5.2,anthropic/claude-sonnet-4-6",
      description:
        `Models as \`provider/name\`, comma-separated, in fallback order. Absent: ${describeDefaultModels()}, both if both ` +
        "are set; with neither, `offline/documents`.",
    },
  ),
  ...timeLimitSettings,
  ...builtInProviderSettings,
  AI_MAX_RETRIES: integer({
    default: 2,
    minimum: 0,
    maximum: 10,
    description: "Retries of one model before the next one takes over.",
  }),
  AI_REASONING: OneOf(["store", "stream", "off"], {
    default: "store",
    description:
      "What happens to the reasoning of models. `store`: sent to readers and stored with the response. `stream`: sent while the " +
      "model thinks, but not stored. `off`: neither. It is always counted and charged.",
  }),
  AI_CONTEXT_TOKENS: limit({
    minimum: 500,
    maximum: 10_000_000,
    description:
      "Maximum tokens of a conversation to send to a model; older messages are summarized. Absent: 64000, and 12000 for models " +
      "with an unknown context window. For your own model, set it to its window minus its longest answer.",
  }),
  AI_PRICES: text({
    format: "prices",
    example: "compatible/llama3.2=0/0,openai/gpt-5.2=1.75/14/0.175",
    description:
      "Prices in USD per million tokens, as `model=input/output[/cached_input[/cache_write]]` or as JSON. They override the " +
      "built-in ones. Missing cache prices default to the price of `input`.",
  }),
  BUDGET_USER_TOKENS_PER_DAY: limit({ description: "Tokens that one user may use in a day (UTC). Absent: no limit." }),
  BUDGET_USER_TOKENS_PER_MONTH: limit({ description: "The same, per month." }),
  BUDGET_USER_USD_PER_DAY: usdLimit({
    description: "US dollars that one user's answers may cost in a day (UTC). Absent: no limit.",
  }),
  BUDGET_USER_USD_PER_MONTH: usdLimit({ description: "The same, per month." }),
  BUDGET_KEY_TOKENS_PER_DAY: limit({
    description: "Tokens that one API key may use in a day (UTC), in addition to its user's budget. Absent: no limit.",
  }),
  BUDGET_KEY_TOKENS_PER_MONTH: limit({ description: "The same, per month." }),
  BUDGET_KEY_USD_PER_DAY: usdLimit({
    description: "US dollars that one API key's answers may cost in a day (UTC). Absent: no limit.",
  }),
  BUDGET_KEY_USD_PER_MONTH: usdLimit({ description: "The same, per month." }),
  BUDGET_ANSWER_TOKENS: integer({
    default: 4_096,
    minimum: 1,
    maximum: 1_000_000,
    description: "Maximum tokens of one answer if a budget is set; they are reserved until the answer ends.",
  }),
  MCP_SERVERS: listOf(
    { format: "mcp-server" },
    {
      // A URL may contain a key.
      secret: true,
      isAddress: true,
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
      description:
        "Browser origins that may call, exact, comma-separated. Parley's own origin is always allowed. Absent: no others; in " +
        "development, those on this machine (`http://localhost:*`).",
    },
  ),
  TRUSTED_PROXIES: listOf(
    { format: "network" },
    {
      example: "10.0.0.0/8",
      description: "Addresses or networks of proxies whose `X-Forwarded-For` is trusted, comma-separated.",
    },
  ),
  TLS_CERT_FILE: text({
    description:
      "Certificate chain (PEM, the server's own certificate first) to serve https and wss directly. Reloaded on SIGHUP.",
  }),
  TLS_KEY_FILE: text({ description: "Private key (PEM, no passphrase) of that certificate." }),
  HTTP2: OneOf(["on", "off"], {
    default: "on",
    description: "Whether to offer HTTP/2 in addition to HTTP/1.1 when Parley serves TLS itself.",
  }),
  ...networkSettings,
  ...rateLimitSettings,
  ...quotaSettings,
  ...searchSettings,
  ...importSettings,
  ...webhookSettings,
  METRICS_TOKEN: text({
    pattern: "^[\\w.~+/=-]+$",
    secret: true,
    isGuard: true,
    description: "Bearer token required for `/metrics` (letters, digits and `._~+/=-`). Absent: open.",
  }),
  ...tracingSettings,
  LOG_LEVEL: OneOf(["trace", "debug", "info", "warn", "error", "fatal", "silent"], {
    default: "info",
    description: "Lowest level that is logged.",
  }),
  LOG_FORMAT: Type.Optional(
    OneOf(["json", "pretty"], {
      description:
        "JSON lines, or human-readable lines. Absent: `pretty` on a terminal in development, otherwise `json`.",
    }),
  ),
  REGISTRATION: Type.Optional(
    OneOf(["open", "closed"], {
      description: "Whether anyone may register. Absent: open; in production, closed.",
    }),
  ),
  REGISTRATION_PRIVACY: OneOf(["on", "off"], {
    default: "off",
    description:
      "`on`: registration and address changes don't reveal which addresses have accounts. See `docs/security.md`.",
  }),
  MEMBER_BY_EMAIL: Type.Optional(
    OneOf(["on", "off"], {
      description:
        "Whether owners of a conversation may add users by e-mail address. Absent: on; with `REGISTRATION_PRIVACY=on`, off.",
    }),
  ),
  OIDC_ISSUER: text({
    format: "http-url",
    example: "https://login.example.com/realms/main",
    description:
      "OpenID Connect issuer whose tokens users log in with, exactly as in `iss`. Absent: none. See `docs/oidc.md`.",
  }),
  OIDC_AUDIENCE: listOf(
    { pattern: "^[^;]+$" },
    {
      example: "parley",
      description: "Required with `OIDC_ISSUER`: accepted values of `aud`, comma-separated; a token needs one of them.",
    },
  ),
  OIDC_JWKS_URL: text({
    format: "http-url",
    description: "URL of the issuer's keys. Absent: taken from its `/.well-known/openid-configuration`.",
  }),
  OIDC_PROVISION: OneOf(["on", "off"], {
    default: "on",
    description:
      "Whether users of that issuer get an account at their first login, regardless of `REGISTRATION`. Off: only linked " +
      "accounts can log in.",
  }),
  READ_CACHE: OneOf(["on", "off"], {
    default: "on",
    description:
      "Whether to cache frequent reads (conversations, short histories, prompts, the list of documents). " +
      "`off`: each one queries the database.",
  }),
  AUDIT_RETENTION_DAYS: integer({
    default: 365,
    minimum: 1,
    maximum: 36_500,
    description: "How long entries of the audit log are kept.",
  }),
  ...backupSettings,
  SHUTDOWN_TIMEOUT_MS: integer({
    default: 25_000,
    minimum: 0,
    maximum: 600_000,
    description: "Maximum time from SIGTERM to exit.",
  }),
});

export type Settings = Static<typeof settings>;

export const settingEntries = Object.entries(settings.properties) as [
  keyof Settings & string,
  TSchema & SettingOptions,
][];
