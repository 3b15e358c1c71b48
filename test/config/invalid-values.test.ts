import { expect, test } from "bun:test";
import { type SettingOptions, settingEntries } from "../../src/config/settings.ts";
import { ConfigError, loadConfig } from "../../src/config.ts";

/** Returns the problems reported for one setting. */
function findProblems(environment: Record<string, string>, name = Object.keys(environment)[0] ?? ""): string[] {
  // Without an issuer and an audience, other OIDC settings cause more problems.
  const issuer = name.startsWith("OIDC_") ? { OIDC_ISSUER: "https://login.example.com", OIDC_AUDIENCE: "a" } : {};
  try {
    loadConfig({ ...issuer, ...environment }, () => "");
    return [];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.problems.filter((problem) => problem.startsWith(`${name}:`));
  }
}

type Schema = SettingOptions & {
  type?: string;
  enum?: string[];
  format?: string;
  pattern?: string;
  minLength?: number;
  items?: { format?: string; pattern?: string };
};

/** Returns invalid values for a setting's type. */
function listInvalidValues(schema: Schema): string[] {
  if (schema.type === "integer" || schema.type === "number") return ["many", "-5", "1e30", "12 parsecs", "1;2", "NaN"];
  if (schema.enum) return ["perhaps", "ja"];
  if (schema.format === "prices") return ["gpt=1", "{", "a/b=1/2;c/d=1/2"];
  if (schema.format === "http-url")
    return ["example", "ftp://example.com", "http://", "https://a b.example", "http:/x"];
  if (schema.format === "host") return ["http://0.0.0.0", "localhost:3000"];
  if (schema.type === "array") return schema.items?.format || schema.items?.pattern ? ["a;b"] : [];
  if ((schema.minLength ?? 0) > 1) return ["short"];
  if (schema.pattern) return ["x y\tü"];
  return [];
}

const SECRET = "hunter2";

test("every invalid value of every setting is reported with a remedy, and without secrets", () => {
  let valueCount = 0;
  for (const [name, schema] of settingEntries) {
    // JWT_SECRET and ADMIN_PASSWORD can contain quotes.
    const quotedValues = ["JWT_SECRET", "ADMIN_PASSWORD"].includes(name) ? [] : [`"${SECRET}"`, `'${SECRET}'`];
    for (const value of [...listInvalidValues(schema as Schema), ...quotedValues]) {
      const hasSecret = schema.secret && value !== "short" && !value.includes(SECRET);
      const problems = findProblems({ [name]: hasSecret ? `${value} ${SECRET}` : value });
      valueCount += 1;
      expect({ name, value, problems: problems.length }).toEqual({ name, value, problems: 1 });
      const [problem = ""] = problems;
      // The problem, a semicolon, and the remedy.
      expect(problem).toMatch(/^[A-Z0-9_]+: .{8,}[;,] .{8,}[.?]$/s);
      if (schema.secret) expect(problem).not.toContain(SECRET);
    }
  }
  expect(valueCount).toBeGreaterThan(350);
});

test.each<[name: string, value: string, remedy: string]>([
  [
    "AI_MODELS",
    "gemini/gemini-3",
    'specifies the provider "gemini", which is not one of openai, anthropic, compatible, offline',
  ],
  ["AI_MODELS", "gemini/gemini-3", "add gemini=ITS_BASE_URL to AI_PROVIDERS."],
  ["AI_MODELS", "gpt-5.2", "write openai/gpt-5.2."],
  ["AI_MODELS", "claude-sonnet-4-6", "write anthropic/claude-sonnet-4-6."],
  ["AI_MODELS", "llama3.2", "write compatible/llama3.2."],
  ["AI_MODELS", "llama3.2:3b", "write compatible/llama3.2:3b."],
  ["AI_MODELS", "OpenAI/gpt-5.2", "write openai/gpt-5.2."],
  ["AI_MODELS", "openai:gpt-5.2", "write openai/gpt-5.2."],
  ["AI_MODELS", "openai/", "write openai/ followed by the model's name."],
  ["AI_MODELS", "openai/a;anthropic/b", "separate values with commas: openai/a,anthropic/b."],
  ["AI_MODELS", "openai/a anthropic/b", "separate values with commas: openai/a,anthropic/b."],
  ["AI_MODELS", '["openai/a"]', "write only the values, separated by commas."],
  ["CORS_ORIGINS", "*", "list each origin, for example https://app.example.com."],
  ["CORS_ORIGINS", "https://*.example.com", "list each origin exactly"],
  ["CORS_ORIGINS", "https://app.example.com/", "ends with a slash; write https://app.example.com."],
  ["CORS_ORIGINS", "https://app.example.com/chat?x=1", "write https://app.example.com."],
  ["CORS_ORIGINS", "app.example.com", "has no scheme; write https://app.example.com."],
  ["CORS_ORIGINS", "localhost:5173", "has no scheme; write http://localhost:5173."],
  ["CORS_ORIGINS", "null", "serve the page over HTTP"],
  ["CORS_ORIGINS", "wss://app.example.com", "write https://app.example.com."],
  ["CORS_ORIGINS", "https://u:hunter2@app.example.com", "contains a user; write https://app.example.com."],
  ["CORS_ORIGINS", "https://a.example;https://b.example", "commas: https://a.example,https://b.example."],
  ["CORS_ORIGINS", "https://a.example;", "commas: https://a.example."],
  ["TRUSTED_PROXIES", "*", "or 0.0.0.0/0,::/0 if only proxies"],
  ["TRUSTED_PROXIES", "nginx", "write the proxy's address instead of its name."],
  ["TRUSTED_PROXIES", "10.0.0.0/33", "write it as 10.1.2.3, 10.0.0.0/8 or fd00::/8."],
  ["COMPATIBLE_BASE_URL", "localhost:11434/v1", "has no scheme; write http://localhost:11434/v1."],
  ["COMPATIBLE_BASE_URL", "models.example.com/v1", "has no scheme; write https://models.example.com/v1."],
  ["COMPATIBLE_BASE_URL", "http://localhost:11434/v1/chat/completions", "ends with /chat/completions"],
  ["ANTHROPIC_BASE_URL", "https://api.anthropic.com/v1/messages", "ends with /messages"],
  ["PUBLIC_URL", "http:/chat.example.com", "write // after the colon."],
  ["PUBLIC_URL", '"https://chat.example.com"', "remove the quotes."],
  ["OPENAI_API_KEY", "'sk-hunter2'", "remove the quotes."],
  ["OPENAI_API_KEY", "Bearer sk-hunter2", "copy only the key"],
  ["PORT", "70000", "70000 is not a whole number from 0 to 65535; set 65535 or less."],
  ["PORT", "3000 # the port", "write 3000."],
  ["PORT", "3_000", "write 3000."],
  ["SHUTDOWN_TIMEOUT_MS", "25s", "write 25000 (milliseconds, without a unit)."],
  ["SHUTDOWN_TIMEOUT_MS", "2 min", "write 120000 (milliseconds"],
  ["SHUTDOWN_TIMEOUT_MS", "500ms", "write 500 (milliseconds"],
  ["SHUTDOWN_TIMEOUT_MS", "1.5s", "write 1500 (milliseconds"],
  ["IMPORT_BYTES_MAX", "512MB", "write 536870912 (bytes"],
  ["IMPORT_BYTES_MAX", "1GiB", "write 1073741824 (bytes"],
  ["AUDIT_RETENTION_DAYS", "1 year", "write 365 (days"],
  ["BUDGET_USER_TOKENS_PER_DAY", "100k", "write 100000."],
  ["BUDGET_USER_TOKENS_PER_DAY", "1,000,000", "write 1000000."],
  ["BUDGET_USER_TOKENS_PER_DAY", "unlimited", "leave BUDGET_USER_TOKENS_PER_DAY unset for no limit."],
  ["BUDGET_USER_USD_PER_DAY", "$5", "write 5 (US dollars, without a currency sign)."],
  ["BUDGET_USER_USD_PER_DAY", "2,50 USD", "write 2.5 (US dollars"],
  ["QUOTA_PROMPTS", "unlimited", "write 0 for no limit."],
  ["APP_ENV", "prod", "write production."],
  ["APP_ENV", "Production", "write production."],
  ["APP_ENV", "prodution", "write production."],
  ["HTTP2", "true", "write on."],
  ["READ_CACHE", "no", "write off."],
  ["RATE_LIMIT_ENABLED", "yes", "write true."],
  ["WEBHOOK_ALLOW_PRIVATE_NETWORKS", "1", "write true."],
  ["REGISTRATION", "false", "write closed."],
  ["LOG_LEVEL", "warning", "write warn."],
  ["LOG_FORMAT", "text", "write pretty."],
  ["HOST", "localhost:8080", "write localhost, and set PORT to 8080."],
  ["DATABASE_URL", "mysql://root:hunter2@db/x", "begins with mysql, but Parley needs Postgres"],
  ["DATABASE_URL", "postgresql+asyncpg://u:hunter2@db/x", "begin it with postgres://."],
  ["DATABASE_URL", "db.example.com/hunter2", "does not begin with postgres://"],
  ["REDIS_URL", "localhost:6379", "write it as redis://host:6379"],
  ["REDIS_URL", "redis://a:6379, redis://b:6379", "use one of them"],
  ["MCP_SERVERS", "https://hunter2.example/mcp", "write it as wiki=https://mcp.example.com/mcp."],
  ["MCP_SERVERS", "a=https://x.example/hunter2;b=https://y.example", "separate values with commas."],
  ["OIDC_AUDIENCE", "a;b", "separate values with commas: a,b."],
  ["ADMIN_EMAIL", "admin", "is not an email address; write it as admin@example.com."],
  ["AI_PRICES", "a/b=1/2;c/d=1/2", "with commas between them, not semicolons."],
])("%s=%s is rejected: %s", (name, value, remedy) => {
  const problems = findProblems({ [name]: value });
  expect(problems).toHaveLength(1);
  expect(problems[0]).toContain(remedy);
  expect(problems[0]).not.toContain("hunter2");
});

test("surrounding spaces are ignored, and an empty value counts as unset", () => {
  const config = loadConfig(
    { PORT: " 4000 ", AI_MODELS: " offline/documents , ", LOG_LEVEL: "", REDIS_URL: " " },
    () => "",
  );
  expect(config).toMatchObject({ PORT: 4000, AI_MODELS: ["offline/documents"], LOG_LEVEL: "info" });
  expect(config.REDIS_URL).toBeUndefined();
});

test.each(["METRICS_TOKEN", "BACKUP_PASSPHRASE"])("%s_FILE must not refer to an empty file", (name) => {
  expect(findProblems({ [`${name}_FILE`]: "/run/secrets/x" }, `${name}_FILE`)).toEqual([
    `${name}_FILE: the file is empty; write the value into it, or unset ${name}_FILE.`,
  ]);
});

test("any other secret counts as unset if its file is empty", () => {
  expect(loadConfig({ OPENAI_API_KEY_FILE: "/run/secrets/key" }, () => " \n").OPENAI_API_KEY).toBeUndefined();
});

test("API keys select their providers' default models, unless AI_MODELS is set", () => {
  const listModels = (environment: Record<string, string>) => loadConfig(environment, () => "").AI_MODELS;
  expect(listModels({})).toEqual([]);
  expect(listModels({ OPENAI_API_KEY: "k" })).toEqual(["openai/gpt-5.2"]);
  expect(listModels({ ANTHROPIC_API_KEY: "k" })).toEqual(["anthropic/claude-sonnet-4-6"]);
  expect(listModels({ ANTHROPIC_API_KEY: "k", OPENAI_API_KEY: "k" })).toEqual([
    "openai/gpt-5.2",
    "anthropic/claude-sonnet-4-6",
  ]);
  expect(listModels({ OPENAI_API_KEY: "k", AI_MODELS: "offline/documents" })).toEqual(["offline/documents"]);
  expect(listModels({ COMPATIBLE_BASE_URL: "http://localhost:1/v1" })).toEqual([]);
});

test("the length of the administrator's password is counted in characters, not in UTF-16 code units", () => {
  expect(findProblems({ ADMIN_PASSWORD: "🐘🌊🍋🚲", ADMIN_EMAIL: "ada@example.com" })).toEqual([
    "ADMIN_PASSWORD: the value is shorter than 8 characters; set a longer one.",
  ]);
  expect(findProblems({ ADMIN_PASSWORD: "🐘🌊🍋🚲🐧🌵🍕🚀", ADMIN_EMAIL: "ada@example.com" })).toEqual([]);
});
