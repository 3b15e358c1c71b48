import { expect, test } from "bun:test";
import { ConfigError, loadConfig } from "../../src/config.ts";

const validConfig = { OIDC_ISSUER: "https://login.example.com/realms/main", OIDC_AUDIENCE: "parley" };
const loadTestConfig = (environment: Record<string, string>) => loadConfig(environment, () => "");

/** Returns the name of the setting in each error. */
function listSettingsWithErrors(environment: Record<string, string>): string[] {
  try {
    loadTestConfig(environment);
    return [];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.problems.map((problem) => problem.slice(0, problem.indexOf(":")));
  }
}

test("OIDC requires only an issuer and an audience", () => {
  expect(loadTestConfig(validConfig)).toMatchObject({
    ...validConfig,
    OIDC_AUDIENCE: ["parley"],
    OIDC_PROVISION: "on",
  });
  expect(loadTestConfig(validConfig).OIDC_JWKS_URL).toBeUndefined();
  expect(loadTestConfig({ ...validConfig, OIDC_AUDIENCE: "web, ios" }).OIDC_AUDIENCE).toEqual(["web", "ios"]);
  expect(loadTestConfig({}).OIDC_ISSUER).toBeUndefined();
});

test("the issuer is kept exactly as written", () => {
  const OIDC_ISSUER = "https://Example.auth0.com/";
  expect(loadTestConfig({ ...validConfig, OIDC_ISSUER }).OIDC_ISSUER).toBe(OIDC_ISSUER);
});

test("incomplete OIDC settings are rejected", () => {
  expect(listSettingsWithErrors({ OIDC_ISSUER: validConfig.OIDC_ISSUER })).toEqual(["OIDC_AUDIENCE"]);
  expect(listSettingsWithErrors({ ...validConfig, OIDC_AUDIENCE: " , " })).toEqual(["OIDC_AUDIENCE"]);
  expect(listSettingsWithErrors({ OIDC_AUDIENCE: "parley" })).toEqual(["OIDC_AUDIENCE"]);
  expect(listSettingsWithErrors({ OIDC_JWKS_URL: "https://login.example.com/keys" })).toEqual(["OIDC_JWKS_URL"]);
});

test("malformed OIDC settings are rejected", () => {
  for (const OIDC_ISSUER of ["login.example.com", "ftp://login.example.com", "https://"])
    expect(listSettingsWithErrors({ ...validConfig, OIDC_ISSUER })).toEqual(["OIDC_ISSUER"]);
  for (const suffix of ["?a=b", "#a"])
    expect(listSettingsWithErrors({ ...validConfig, OIDC_ISSUER: validConfig.OIDC_ISSUER + suffix })).toEqual([
      "OIDC_ISSUER",
    ]);
  expect(listSettingsWithErrors({ ...validConfig, OIDC_PROVISION: "yes" })).toEqual(["OIDC_PROVISION"]);
});

test("in production, a remote HTTP issuer is rejected unless OIDC_JWKS_URL is set", () => {
  const productionConfig = { ...validConfig, APP_ENV: "production", JWT_SECRET: "x".repeat(32) };
  const OIDC_ISSUER = "http://keycloak:8080/realms/main";
  expect(listSettingsWithErrors(productionConfig)).toEqual([]);
  expect(listSettingsWithErrors({ ...productionConfig, OIDC_ISSUER })).toEqual(["OIDC_ISSUER"]);
  expect(listSettingsWithErrors({ ...productionConfig, OIDC_ISSUER: "http://localhost.evil.example" })).toEqual([
    "OIDC_ISSUER",
  ]);
  expect(listSettingsWithErrors({ ...productionConfig, OIDC_ISSUER: "http://127.0.0.1:8080" })).toEqual([]);
  expect(
    listSettingsWithErrors({ ...productionConfig, OIDC_ISSUER, OIDC_JWKS_URL: "http://keycloak:8080/keys" }),
  ).toEqual([]);
  expect(listSettingsWithErrors({ ...validConfig, OIDC_ISSUER })).toEqual([]);
});
