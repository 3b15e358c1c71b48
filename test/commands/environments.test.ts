import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseEnv } from "node:util";
import { runParley } from "./run-parley.ts";

// Starts several processes.
setDefaultTimeout(30_000);

const folder = join(import.meta.dir, "../../deploy/env");
const readExample = (name: string) => {
  const values = parseEnv(readFileSync(join(folder, `${name}.env`), "utf8"));
  return Object.fromEntries(Object.entries(values).map(([key, value]) => [key, value ?? ""]));
};
const check = (env: Record<string, string>) => runParley(["config", "check"], { env });
const linesOf = (text: string) => text.split("\n").filter((line) => line !== "");
const settingsOf = (text: string) => linesOf(text).map((line) => line.replace(/^Warning: /, "").split(":")[0]);

const secret = "nUwSdI5mBx8Lr2VfQk0Zt7PcYh3Je9Gao6Ti1Wq4Xs0=";
const safe = { APP_ENV: "production", JWT_SECRET: secret, METRICS_TOKEN: "5f2c9a7e1d" };

describe("the examples in deploy/env", () => {
  test.each(["development", "staging"])("%s.env is valid unchanged", async (name) => {
    const env = readExample(name);
    expect(env.APP_ENV).toBe(name);
    expect(await check(env)).toMatchObject({ code: 0, stdout: "The configuration is valid.\n" });
  });

  test("production.env requires only JWT_SECRET", async () => {
    const env = readExample("production");
    expect(env.APP_ENV).toBe("production");
    const unfilled = await check(env);
    expect(unfilled.code).toBe(2);
    expect(settingsOf(unfilled.stderr)).toEqual(["JWT_SECRET"]);
    const filled = await check({ ...env, JWT_SECRET: secret });
    expect(filled.code).toBe(0);
    expect(settingsOf(filled.stderr)).toEqual(["METRICS_TOKEN"]);
  });

  test.each(["development", "staging", "production"])("every setting that %s.env omits exists", async (name) => {
    const text = readFileSync(join(folder, `${name}.env`), "utf8");
    const known = readFileSync(join(folder, "../../.env.example"), "utf8");
    const names = [...text.matchAll(/^(?:# )?([A-Z][A-Z_]+)=/gm)].map(([, name]) => name);
    expect(names.length).toBeGreaterThan(5);
    for (const name of names) expect(known).toContain(`\n# ${name}=`);
  });
});

describe("outside development", () => {
  test.each(["staging", "production"])("placeholders are rejected in %s, without being printed", async (APP_ENV) => {
    for (const placeholder of [
      "change-me-change-me-change-me-change-me",
      "<32 random bytes, see the operations guide>",
    ]) {
      const { code, stderr } = await check({ ...safe, APP_ENV, JWT_SECRET: placeholder });
      expect({ placeholder, code, settings: settingsOf(stderr) }).toEqual({
        placeholder,
        code: 2,
        settings: ["JWT_SECRET"],
      });
      expect(stderr).not.toContain(placeholder);
    }
    const admin = { ADMIN_EMAIL: "ada@example.com", ADMIN_PASSWORD: "Replace_Me_Now" };
    expect(settingsOf((await check({ ...safe, APP_ENV, ...admin, METRICS_TOKEN: "changeme" })).stderr)).toEqual([
      "ADMIN_PASSWORD",
      "METRICS_TOKEN",
    ]);
  });

  test("a random secret is accepted, in each usual format", async () => {
    const bytes = crypto.getRandomValues(new Uint8Array(32));
    for (const JWT_SECRET of [bytes.toBase64(), bytes.toHex(), crypto.randomUUID()])
      expect(await check({ ...safe, JWT_SECRET })).toMatchObject({ code: 0, stderr: "" });
  });

  test("a passphrase that only contains such letters is accepted", async () => {
    const admin = { ADMIN_EMAIL: "ada@example.com", ADMIN_PASSWORD: "exchange messages, replace meters" };
    expect(await check({ ...safe, ...admin })).toMatchObject({ code: 0, stderr: "" });
  });

  test("a wildcard origin is rejected in every environment", async () => {
    for (const APP_ENV of ["development", "staging", "production"]) {
      const { code, stderr } = await check({ ...safe, APP_ENV, CORS_ORIGINS: "*" });
      expect({ APP_ENV, code, settings: settingsOf(stderr) }).toEqual({ APP_ENV, code: 2, settings: ["CORS_ORIGINS"] });
    }
  });

  test("safe settings cause no warning, unsafe ones one each", async () => {
    expect(
      await check({ ...safe, PUBLIC_URL: "https://chat.example.com", TRUSTED_PROXIES: "10.0.0.0/8,fd00::/8" }),
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
    const { code, stderr } = await check({ APP_ENV: "staging", ...unsafe });
    expect(code).toBe(0);
    expect(settingsOf(stderr)).toEqual([
      "METRICS_TOKEN",
      "JWT_SECRET",
      "PUBLIC_URL",
      "OIDC_ISSUER",
      "CORS_ORIGINS",
      "CORS_ORIGINS",
      "TRUSTED_PROXIES",
      "TRUSTED_PROXIES",
    ]);
    const keys = await check({
      ...safe,
      OIDC_ISSUER: "https://login.example.com",
      OIDC_AUDIENCE: "parley",
      OIDC_JWKS_URL: "http://login.example.com/keys",
    });
    expect({ code: keys.code, settings: settingsOf(keys.stderr) }).toEqual({ code: 0, settings: ["OIDC_JWKS_URL"] });
    expect(linesOf(stderr).every((line) => line.startsWith("Warning: "))).toBe(true);
    expect(stderr).not.toContain(unsafe.JWT_SECRET);
  });

  test("development has no warnings", async () => {
    const env = {
      APP_ENV: "development",
      JWT_SECRET: "change-me-change-me-change-me-change-me",
      TRUSTED_PROXIES: "::/0",
    };
    expect(await check(env)).toMatchObject({ code: 0, stderr: "" });
  });
});
