import { expect, test } from "bun:test";
import { ConfigError, loadConfig } from "../../src/config.ts";

const good = { OIDC_ISSUER: "https://login.example.com/realms/main", OIDC_AUDIENCE: "parley" };
const load = (environment: Record<string, string>) => loadConfig(environment, () => "");

/** The setting that each error starts with. */
function listSettingsWithErrors(environment: Record<string, string>): string[] {
  try {
    load(environment);
    return [];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.problems.map((problem) => problem.slice(0, problem.indexOf(":")));
  }
}

test("requires only an issuer and an audience", () => {
  expect(load(good)).toMatchObject({ ...good, OIDC_AUDIENCE: ["parley"], OIDC_PROVISION: "on" });
  expect(load(good).OIDC_JWKS_URL).toBeUndefined();
  expect(load({ ...good, OIDC_AUDIENCE: "web, ios" }).OIDC_AUDIENCE).toEqual(["web", "ios"]);
  expect(load({}).OIDC_ISSUER).toBeUndefined();
});

test("keeps the issuer as written, since tokens contain it exactly so", () => {
  const OIDC_ISSUER = "https://Example.auth0.com/";
  expect(load({ ...good, OIDC_ISSUER }).OIDC_ISSUER).toBe(OIDC_ISSUER);
});

test("rejects incomplete settings", () => {
  expect(listSettingsWithErrors({ OIDC_ISSUER: good.OIDC_ISSUER })).toEqual(["OIDC_AUDIENCE"]);
  expect(listSettingsWithErrors({ ...good, OIDC_AUDIENCE: " , " })).toEqual(["OIDC_AUDIENCE"]);
  expect(listSettingsWithErrors({ OIDC_AUDIENCE: "parley" })).toEqual(["OIDC_AUDIENCE"]);
  expect(listSettingsWithErrors({ OIDC_JWKS_URL: "https://login.example.com/keys" })).toEqual(["OIDC_JWKS_URL"]);
});

test("rejects malformed issuers", () => {
  for (const OIDC_ISSUER of ["login.example.com", "ftp://login.example.com", "https://"])
    expect(listSettingsWithErrors({ ...good, OIDC_ISSUER })).toEqual(["OIDC_ISSUER"]);
  for (const end of ["?a=b", "#a"])
    expect(listSettingsWithErrors({ ...good, OIDC_ISSUER: good.OIDC_ISSUER + end })).toEqual(["OIDC_ISSUER"]);
  expect(listSettingsWithErrors({ ...good, OIDC_PROVISION: "yes" })).toEqual(["OIDC_PROVISION"]);
});

test("in production, rejects keys over http unless explicitly allowed", () => {
  const production = { ...good, APP_ENV: "production", JWT_SECRET: "x".repeat(32) };
  const OIDC_ISSUER = "http://keycloak:8080/realms/main";
  expect(listSettingsWithErrors(production)).toEqual([]);
  expect(listSettingsWithErrors({ ...production, OIDC_ISSUER })).toEqual(["OIDC_ISSUER"]);
  expect(listSettingsWithErrors({ ...production, OIDC_ISSUER: "http://localhost.evil.example" })).toEqual([
    "OIDC_ISSUER",
  ]);
  expect(listSettingsWithErrors({ ...production, OIDC_ISSUER: "http://127.0.0.1:8080" })).toEqual([]);
  expect(listSettingsWithErrors({ ...production, OIDC_ISSUER, OIDC_JWKS_URL: "http://keycloak:8080/keys" })).toEqual(
    [],
  );
  expect(listSettingsWithErrors({ ...good, OIDC_ISSUER })).toEqual([]);
});
