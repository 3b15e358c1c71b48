import { expect, test } from "bun:test";
import { ConfigError, loadConfig } from "../../src/config.ts";

const good = { OIDC_ISSUER: "https://login.example.com/realms/main", OIDC_AUDIENCE: "parley" };
const load = (environment: Record<string, string>) => loadConfig(environment, () => "");

/** What each sentence begins with. */
function listFaults(environment: Record<string, string>): string[] {
  try {
    load(environment);
    return [];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.problems.map((problem) => problem.slice(0, problem.indexOf(":")));
  }
}

test("an issuer and an audience are enough", () => {
  expect(load(good)).toMatchObject({ ...good, OIDC_AUDIENCE: ["parley"], OIDC_PROVISION: "on" });
  expect(load(good).OIDC_JWKS_URL).toBeUndefined();
  expect(load({ ...good, OIDC_AUDIENCE: "web, ios" }).OIDC_AUDIENCE).toEqual(["web", "ios"]);
  expect(load({}).OIDC_ISSUER).toBeUndefined();
});

test("the issuer is kept as it is written, since tokens name it so", () => {
  const OIDC_ISSUER = "https://Example.auth0.com/";
  expect(load({ ...good, OIDC_ISSUER }).OIDC_ISSUER).toBe(OIDC_ISSUER);
});

test("half of it is a mistake", () => {
  expect(listFaults({ OIDC_ISSUER: good.OIDC_ISSUER })).toEqual(["OIDC_AUDIENCE"]);
  expect(listFaults({ ...good, OIDC_AUDIENCE: " , " })).toEqual(["OIDC_AUDIENCE"]);
  expect(listFaults({ OIDC_AUDIENCE: "parley" })).toEqual(["OIDC_AUDIENCE"]);
  expect(listFaults({ OIDC_JWKS_URL: "https://login.example.com/keys" })).toEqual(["OIDC_JWKS_URL"]);
});

test("what no issuer is named is refused", () => {
  for (const OIDC_ISSUER of ["login.example.com", "ftp://login.example.com", "https://"])
    expect(listFaults({ ...good, OIDC_ISSUER })).toEqual(["OIDC_ISSUER"]);
  for (const end of ["?a=b", "#a"])
    expect(listFaults({ ...good, OIDC_ISSUER: good.OIDC_ISSUER + end })).toEqual(["OIDC_ISSUER"]);
  expect(listFaults({ ...good, OIDC_PROVISION: "yes" })).toEqual(["OIDC_PROVISION"]);
});

test("in production keys do not come over http, unless it is said so", () => {
  const production = { ...good, APP_ENV: "production", JWT_SECRET: "x".repeat(32) };
  const OIDC_ISSUER = "http://keycloak:8080/realms/main";
  expect(listFaults(production)).toEqual([]);
  expect(listFaults({ ...production, OIDC_ISSUER })).toEqual(["OIDC_ISSUER"]);
  expect(listFaults({ ...production, OIDC_ISSUER: "http://localhost.evil.example" })).toEqual(["OIDC_ISSUER"]);
  expect(listFaults({ ...production, OIDC_ISSUER: "http://127.0.0.1:8080" })).toEqual([]);
  expect(listFaults({ ...production, OIDC_ISSUER, OIDC_JWKS_URL: "http://keycloak:8080/keys" })).toEqual([]);
  expect(listFaults({ ...good, OIDC_ISSUER })).toEqual([]);
});
