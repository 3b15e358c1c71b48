import { expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createFolder, runParley } from "./run-parley.ts";

// Starts several processes.
setDefaultTimeout(30_000);

const bad = {
  APP_ENV: "production",
  PORT: "70000",
  PUBLIC_URL: "http://[",
  CORS_ORIGINS: "https://a.example/path,https://b.example",
  TRUSTED_PROXIES: "10.0.0.0/8,1.2.3",
  TLS_CERT_FILE: "/no/such/file",
  DOCUMENTS_DIR: "/no/such/folder",
  DATABASE_URL: "mysql://root:hunter2@db/x",
  AI_MODELS: "openai/gpt-5.2,gpt",
};

test.each(["serve", "migrate", "config check"])(
  "parley %s lists every error at once, and ends with 2",
  async (command) => {
    const { code, stdout, stderr } = await runParley(command.split(" "), { env: bad });
    expect(code).toBe(2);
    expect(stdout).toBe("");
    const lines = stderr.trimEnd().split("\n");
    for (const start of [
      "PORT: 70000 ",
      'PUBLIC_URL: "http://["',
      "DATABASE_URL: the value ",
      'AI_MODELS: "gpt"',
      'CORS_ORIGINS: "https://a.example/path"',
      'TRUSTED_PROXIES: "1.2.3"',
      "JWT_SECRET: required in production",
      "TLS_CERT_FILE and TLS_KEY_FILE: ",
      "AI_MODELS names a model of openai, but OPENAI_API_KEY",
      "TLS_CERT_FILE: the file /no/such/file ",
      "DOCUMENTS_DIR: /no/such/folder ",
    ])
      expect({ start, said: lines.filter((line) => line.startsWith(start)).length }).toEqual({ start, said: 1 });
    expect(lines).toHaveLength(11);
    expect(stderr).not.toContain("hunter2");
  },
);

test("parley config prints what is in effect, and no secret", async () => {
  const env = {
    JWT_SECRET: "0123456789abcdef0123456789abcdef",
    PORT: "4000",
    DATABASE_URL: "postgres://u:hunter2@db/x",
  };
  const { code, stdout } = await runParley(["config"], { env });
  expect(code).toBe(0);
  expect(stdout).toContain("\nPORT=4000\n");
  expect(stdout).toContain("\nJWT_SECRET=********\n");
  expect(stdout).toContain("\n# METRICS_TOKEN is not set\n");
  expect(stdout).toContain("\nREGISTRATION=open\n");
  expect(stdout).not.toMatch(/hunter2|0123456789abcdef/);
});

test("a secret can come from a file, but not from both", async () => {
  using folder = createFolder();
  const file = join(folder.path, "token");
  writeFileSync(file, "from-a-file\n");
  const good = await runParley(["config"], { env: { METRICS_TOKEN_FILE: file } });
  expect(good.stdout).toContain("\nMETRICS_TOKEN=********\n");
  const both = await runParley(["config", "check"], { env: { METRICS_TOKEN_FILE: file, METRICS_TOKEN: "x" } });
  expect(both).toMatchObject({
    code: 2,
    stderr: "METRICS_TOKEN and METRICS_TOKEN_FILE are both set; keep one of them.\n",
  });
  const none = await runParley(["config", "check"], { env: { METRICS_TOKEN_FILE: `${file}.gone` } });
  expect(none).toMatchObject({ code: 2, stderr: "METRICS_TOKEN_FILE: the file cannot be read.\n" });
});

test(".env is read in development, below the environment, and nowhere else", async () => {
  using folder = createFolder();
  const cwd = folder.path;
  writeFileSync(join(cwd, ".env"), "PORT=4001\nHOST=127.0.0.9\n");
  const development = await runParley(["config"], { cwd, env: { PORT: "4002" } });
  expect(development.stdout).toContain("\nHOST=127.0.0.9\n");
  expect(development.stdout).toContain("\nPORT=4002\n");
  const staging = await runParley(["config"], { cwd, env: { APP_ENV: "staging" } });
  expect(staging.stdout).toContain("\nHOST=0.0.0.0\n");

  writeFileSync(join(cwd, ".env"), "APP_ENV=production\n");
  const wrong = await runParley(["config"], { cwd });
  expect(wrong.code).toBe(2);
  expect(wrong.stderr).toStartWith("APP_ENV: .env is read in development only");
});
