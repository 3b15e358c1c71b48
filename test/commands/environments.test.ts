import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseEnv } from "node:util";
import { runParley } from "./run-parley.ts";

// Each test starts several processes.
setDefaultTimeout(30_000);

const examplesFolder = join(import.meta.dir, "../../deploy/env");
const readExampleFile = (name: string) => {
  const values = parseEnv(readFileSync(join(examplesFolder, `${name}.env`), "utf8"));
  return Object.fromEntries(Object.entries(values).map(([key, value]) => [key, value ?? ""]));
};
const checkConfig = (env: Record<string, string>) => runParley(["config", "check"], { env });
const splitLines = (text: string) => text.split("\n").filter((line) => line !== "");
const listSettings = (text: string) => splitLines(text).map((line) => line.replace(/^Warning: /, "").split(":")[0]);

const secret = "nUwSdI5mBx8Lr2VfQk0Zt7PcYh3Je9Gao6Ti1Wq4Xs0=";
const safeSettings = { APP_ENV: "production", JWT_SECRET: secret, METRICS_TOKEN: "5f2c9a7e1d" };

describe("the examples in deploy/env", () => {
  test.each(["development", "staging"])("include a valid %s.env", async (name) => {
    const env = readExampleFile(name);
    expect(env.APP_ENV).toBe(name);
    expect(await checkConfig(env)).toMatchObject({ code: 0, stdout: "The configuration is valid.\n" });
  });

  test("include a production.env in which only JWT_SECRET must be set", async () => {
    const env = readExampleFile("production");
    expect(env.APP_ENV).toBe("production");
    const withoutSecret = await checkConfig(env);
    expect(withoutSecret.code).toBe(2);
    expect(listSettings(withoutSecret.stderr)).toEqual(["JWT_SECRET"]);
    const withSecret = await checkConfig({ ...env, JWT_SECRET: secret });
    expect(withSecret.code).toBe(0);
    expect(listSettings(withSecret.stderr)).toEqual(["METRICS_TOKEN"]);
  });

  test.each(["development", "staging", "production"])("mention only settings that exist (%s.env)", async (name) => {
    const text = readFileSync(join(examplesFolder, `${name}.env`), "utf8");
    const allSettings = readFileSync(join(examplesFolder, "../../.env.example"), "utf8");
    const settings = [...text.matchAll(/^(?:# )?([A-Z][A-Z_]+)=/gm)].map(([, setting]) => setting);
    expect(settings.length).toBeGreaterThan(5);
    for (const setting of settings) expect(allSettings).toContain(`\n# ${setting}=`);
  });
});

describe("outside development", () => {
  test.each(["staging", "production"])("placeholders are rejected in %s, but not printed", async (APP_ENV) => {
    for (const placeholder of [
      "change-me-change-me-change-me-change-me",
      "<32 random bytes, see the operations guide>",
    ]) {
      const { code, stderr } = await checkConfig({ ...safeSettings, APP_ENV, JWT_SECRET: placeholder });
      expect({ placeholder, code, settings: listSettings(stderr) }).toEqual({
        placeholder,
        code: 2,
        settings: ["JWT_SECRET"],
      });
      expect(stderr).not.toContain(placeholder);
    }
    const adminSettings = { ADMIN_EMAIL: "ada@example.com", ADMIN_PASSWORD: "Replace_Me_Now" };
    expect(
      listSettings(
        (await checkConfig({ ...safeSettings, APP_ENV, ...adminSettings, METRICS_TOKEN: "changeme" })).stderr,
      ),
    ).toEqual(["ADMIN_PASSWORD", "METRICS_TOKEN"]);
  });

  test("a random secret is accepted in all common formats", async () => {
    const bytes = crypto.getRandomValues(new Uint8Array(32));
    for (const JWT_SECRET of [bytes.toBase64(), bytes.toHex(), crypto.randomUUID()])
      expect(await checkConfig({ ...safeSettings, JWT_SECRET })).toMatchObject({ code: 0, stderr: "" });
  });

  test("a passphrase that contains a placeholder within a word is accepted", async () => {
    const adminSettings = { ADMIN_EMAIL: "ada@example.com", ADMIN_PASSWORD: "exchange messages, replace meters" };
    expect(await checkConfig({ ...safeSettings, ...adminSettings })).toMatchObject({ code: 0, stderr: "" });
  });

  test("a wildcard origin is rejected, as in development", async () => {
    for (const APP_ENV of ["development", "staging", "production"]) {
      const { code, stderr } = await checkConfig({ ...safeSettings, APP_ENV, CORS_ORIGINS: "*" });
      expect({ APP_ENV, code, settings: listSettings(stderr) }).toEqual({
        APP_ENV,
        code: 2,
        settings: ["CORS_ORIGINS"],
      });
    }
  });

  test("safe settings cause no warnings, and each unsafe setting causes one", async () => {
    expect(
      await checkConfig({
        ...safeSettings,
        PUBLIC_URL: "https://chat.example.com",
        TRUSTED_PROXIES: "10.0.0.0/8,fd00::/8",
      }),
    ).toMatchObject({
      code: 0,
      stderr: "",
    });
    const unsafe = {
      JWT_SECRET: "ab".repeat(20),
      PUBLIC_URL: "http://chat.example.com",
      OIDC_ISSUER: "http://login.example.com",
      OIDC_AUDIENCE: "parley",
      CORS_ORIGINS: "http://app.example.com,https://localhost:8443",
      TRUSTED_PROXIES: "0.0.0.0/0,::/0,10.0.0.0/8",
    };
    const { code, stderr } = await checkConfig({ APP_ENV: "staging", ...unsafe });
    expect(code).toBe(0);
    expect(listSettings(stderr)).toEqual([
      "METRICS_TOKEN",
      "JWT_SECRET",
      "PUBLIC_URL",
      "OIDC_ISSUER",
      "CORS_ORIGINS",
      "CORS_ORIGINS",
      "TRUSTED_PROXIES",
      "TRUSTED_PROXIES",
    ]);
    const withKeysOverHttp = await checkConfig({
      ...safeSettings,
      OIDC_ISSUER: "https://login.example.com",
      OIDC_AUDIENCE: "parley",
      OIDC_JWKS_URL: "http://login.example.com/keys",
    });
    expect({ code: withKeysOverHttp.code, settings: listSettings(withKeysOverHttp.stderr) }).toEqual({
      code: 0,
      settings: ["OIDC_JWKS_URL"],
    });
    expect(splitLines(stderr).every((line) => line.startsWith("Warning: "))).toBe(true);
    expect(stderr).not.toContain(unsafe.JWT_SECRET);
  });

  test("unsafe settings cause warnings, unlike in development", async () => {
    const env = {
      APP_ENV: "development",
      JWT_SECRET: "change-me-change-me-change-me-change-me",
      TRUSTED_PROXIES: "::/0",
    };
    expect(await checkConfig(env)).toMatchObject({ code: 0, stderr: "" });
  });
});
