import { expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createFolder, runParley } from "./run-parley.ts";

// Each test starts several processes.
setDefaultTimeout(30_000);

const invalidSettings = {
  APP_ENV: "production",
  PORT: "70000",
  PUBLIC_URL: "http://[",
  CORS_ORIGINS: "https://a.example/path,https://b.example",
  TRUSTED_PROXIES: "10.0.0.0/8,1.2.3",
  TLS_CERT_FILE: "/no/such/file",
  DOCUMENTS_DIR: "/no/such/folder",
  DATABASE_URL: "mysql://root:hunter2@db/x",
  AI_MODELS: "openai/gpt-5.2,gpt",
  COMPATIBLE_BASE_URL: "http://u:hunter2@bad host/",
};

test.each(["serve", "migrate", "config check"])(
  "parley %s lists all configuration errors, and exits with code 2",
  async (command) => {
    const { code, stdout, stderr } = await runParley(command.split(" "), { env: invalidSettings });
    expect(code).toBe(2);
    expect(stdout).toBe("");
    const lines = stderr.trimEnd().split("\n");
    for (const expectedStart of [
      "PORT: 70000 ",
      'PUBLIC_URL: "http://["',
      "DATABASE_URL: the value ",
      'AI_MODELS: "gpt"',
      'COMPATIBLE_BASE_URL: "http://********@bad host/" is not a URL',
      'CORS_ORIGINS: "https://a.example/path"',
      'TRUSTED_PROXIES: "1.2.3"',
      "JWT_SECRET: required in production",
      "TLS_CERT_FILE and TLS_KEY_FILE: ",
      "AI_MODELS includes a model from openai, but OPENAI_API_KEY",
      "TLS_CERT_FILE: the file /no/such/file ",
      "DOCUMENTS_DIR: /no/such/folder ",
    ])
      expect({ start: expectedStart, count: lines.filter((line) => line.startsWith(expectedStart)).length }).toEqual({
        start: expectedStart,
        count: 1,
      });
    expect(lines).toHaveLength(12);
    expect(stderr).not.toContain("hunter2");
  },
);

/** Parses the printed settings into their values and sources. */
function parseSettings(printed: string): Record<string, [value: string, source: string]> {
  return Object.fromEntries(
    [...printed.matchAll(/^([A-Z_\d]+)=(.*?) +# (.+)$/gm)].map(([, name, value = "", source = ""]) => [
      name,
      [value, source],
    ]),
  );
}

test("parley config prints the effective configuration without secrets", async () => {
  const env = {
    JWT_SECRET: "0123456789abcdef0123456789abcdef",
    PORT: "4000",
    DATABASE_URL: "postgres://u:hunter2@db.example:5432/x?sslmode=require",
    REDIS_URL: "rediss://:hunter2@redis.example:6379",
    COMPATIBLE_BASE_URL: "http://u:hunter2@models.example:8080/@here?api-version=1&key=hunter2",
    MCP_SERVERS: "wiki=https://u:hunter2@mcp.example/mcp,b=https://b.example/mcp?token=hunter2",
    PUBLIC_URL: "https://hunter2@chat.example",
  };
  const { code, stdout } = await runParley(["config"], { env });
  expect(code).toBe(0);
  expect(parseSettings(stdout)).toMatchObject({
    PORT: ["4000", "environment"],
    HOST: ["0.0.0.0", "default"],
    JWT_SECRET: ["********", "environment"],
    DATABASE_URL: ["postgres://********@db.example:5432/x?sslmode=require", "environment"],
    REDIS_URL: ["rediss://********@redis.example:6379", "environment"],
    COMPATIBLE_BASE_URL: ["http://********@models.example:8080/@here?api-version=1&key=********", "environment"],
    MCP_SERVERS: ["wiki=https://********@mcp.example/mcp,b=https://b.example/mcp?token=********", "environment"],
    PUBLIC_URL: ["https://********@chat.example", "environment"],
    REGISTRATION: ["open", "default"],
  });
  expect(stdout).toContain("\n# METRICS_TOKEN is not set\n");
  expect(stdout).not.toMatch(/hunter2|0123456789abcdef/);
});

test("a secret can be set directly or read from a file, but not both", async () => {
  using folder = createFolder();
  const file = join(folder.path, "token");
  writeFileSync(file, "from-a-file\n");
  const fromFile = await runParley(["config"], { env: { METRICS_TOKEN_FILE: file } });
  expect(parseSettings(fromFile.stdout).METRICS_TOKEN).toEqual(["********", "METRICS_TOKEN_FILE"]);
  const withBoth = await runParley(["config", "check"], { env: { METRICS_TOKEN_FILE: file, METRICS_TOKEN: "x" } });
  expect(withBoth).toMatchObject({
    code: 2,
    stderr: "METRICS_TOKEN and METRICS_TOKEN_FILE are both set; keep one of them.\n",
  });
  const withMissingFile = await runParley(["config", "check"], { env: { METRICS_TOKEN_FILE: `${file}.missing` } });
  expect(withMissingFile).toMatchObject({
    code: 2,
    stderr: "METRICS_TOKEN_FILE: the file can't be read; use an existing file that Parley's user can read.\n",
  });
});

test(".env is read only in development, and the environment takes precedence", async () => {
  using folder = createFolder();
  const cwd = folder.path;
  writeFileSync(join(cwd, ".env"), "PORT=4001\nHOST=127.0.0.9\n");
  const development = await runParley(["config"], { cwd, env: { PORT: "4002" } });
  expect(parseSettings(development.stdout)).toMatchObject({
    HOST: ["127.0.0.9", ".env"],
    PORT: ["4002", "environment"],
  });
  const staging = await runParley(["config"], { cwd, env: { APP_ENV: "staging" } });
  expect(parseSettings(staging.stdout).HOST).toEqual(["0.0.0.0", "default"]);

  writeFileSync(join(cwd, "token"), "from-a-file\n");
  writeFileSync(join(cwd, ".env"), "METRICS_TOKEN_FILE=token\nHOST=127.0.0.9\n");
  const withEmptyHost = await runParley(["config"], { cwd, env: { HOST: "" } });
  expect(parseSettings(withEmptyHost.stdout)).toMatchObject({
    METRICS_TOKEN: ["********", "METRICS_TOKEN_FILE (.env)"],
    HOST: ["0.0.0.0", "default"],
  });

  writeFileSync(join(cwd, ".env"), "APP_ENV=production\n");
  const withAppEnvInFile = await runParley(["config"], { cwd });
  expect(withAppEnvInFile.code).toBe(2);
  expect(withAppEnvInFile.stderr).toStartWith("APP_ENV: .env is read only in development");
});
