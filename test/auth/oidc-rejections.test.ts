import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createHmac } from "node:crypto";
import { exportSPKI, generateKeyPair, importJWK, type JWTPayload, SignJWT, UnsecuredJWT } from "jose";
import type { Tokens } from "../../src/modules/auth/model.ts";
import {
  CLOCK_TOLERANCE_S,
  ISSUER_TOKEN_CHARS_MAX,
  ISSUER_TOKEN_TTL_MAX_S,
} from "../../src/modules/auth/oidc/limits.ts";
import { type Accounts, JWT_SECRET, readJson, readProblem, startAccounts } from "./start-accounts.ts";
import { AUDIENCE, type Issuer, startIssuer } from "./start-issuer.ts";

let issuer: Issuer;
let accounts: Accounts;
let parleyTokens: Tokens;
beforeAll(async () => {
  issuer = await startIssuer();
  const options = { issuer: issuer.url, audience: [AUDIENCE], jwksUrl: undefined, isProvisioning: true };
  accounts = await startAccounts({ issuer: options });
  parleyTokens = await accounts.register();
});
afterAll(async () => {
  await accounts.stop();
  await issuer.stop();
});

const now = () => Math.floor(Date.now() / 1000);
const unauthorized = { status: 401, code: "unauthorized" };
const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
const decode = (part: string | undefined) => JSON.parse(Buffer.from(String(part), "base64url").toString());
const signWithSecret = (secret: string | Buffer, header: unknown, payload: unknown) => {
  const signed = `${encode(header)}.${encode(payload)}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
};
const getFirstKey = () => {
  const key = issuer.keys[0];
  if (!key) throw new Error("The issuer has no key.");
  return key;
};

/** Expects a token to be rejected as a credential and for a login, without creating a user. */
async function expectRejected(name: string, token: string): Promise<void> {
  const before = await accounts.database`select count(*) as n from users`;
  const isHeaderValue = /^[\w.~+/=-]*$/.test(token);
  if (isHeaderValue)
    expect({ name, ...(await readProblem(await accounts.call("/me", { token }))) }).toEqual({ name, ...unauthorized });
  const login = await readProblem(await accounts.call("/auth/oidc", { json: { token } }));
  if (token === "" || token.length > ISSUER_TOKEN_CHARS_MAX)
    expect({ name, ...login }).toEqual({ name, status: 422, code: "invalid" });
  else expect({ name, ...login }).toEqual({ name, ...unauthorized });
  expect(await accounts.database`select count(*) as n from users`).toEqual(before);
}

test("a token signed by the issuer is valid, which proves that the tokens below fail for the stated reasons", async () => {
  const { kid, privateKey } = getFirstKey();
  const token = await new SignJWT(issuer.createClaims()).setProtectedHeader({ alg: "RS256", kid }).sign(privateKey);
  expect((await accounts.call("/me", { token })).status).toBe(200);
  expect((await accounts.call("/auth/oidc", { json: { token } })).status).toBe(200);
});

describe("a token is rejected", () => {
  test("if it has no signature", async () => {
    const [head, body, signature] = (await issuer.sign()).split(".");
    const { kid } = getFirstKey();
    for (const alg of ["none", "None", "NONE", "nOnE", ""]) {
      await expectRejected(`alg ${alg}`, `${encode({ alg, kid, typ: "JWT" })}.${body}.`);
      await expectRejected(`alg ${alg} with a signature`, `${encode({ alg, kid, typ: "JWT" })}.${body}.${signature}`);
    }
    await expectRejected("no algorithm", `${encode({ kid })}.${body}.${signature}`);
    await expectRejected("no signature", `${head}.${body}.`);
    await expectRejected("two parts", `${head}.${body}`);
    await expectRejected("unsecured", new UnsecuredJWT(issuer.createClaims()).encode());
  });

  test("if it is signed with the public key as a shared secret (algorithm confusion)", async () => {
    const { kid, jwk } = getFirstKey();
    const key = await importJWK({ ...jwk, ext: true }, "RS256");
    if (key instanceof Uint8Array) throw new Error("Not a public key.");
    const pem = await exportSPKI(key);
    const secrets = {
      pem,
      "pem, trimmed": pem.trim(),
      jwk: JSON.stringify(jwk),
      n: Buffer.from(String(jwk.n), "base64url"),
    };
    for (const [format, secret] of Object.entries(secrets))
      for (const header of [{ alg: "HS256", kid }, { alg: "HS256" }, { alg: "RS256", kid }])
        await expectRejected(`${format} ${header.alg}`, signWithSecret(secret, header, issuer.createClaims()));
  });

  test("if it is signed with Parley's secret but names the issuer, or vice versa", async () => {
    const payload = decode(parleyTokens.access_token.split(".")[1]);
    const header = { alg: "HS256", typ: "JWT" };
    expect((await accounts.call("/me", { token: signWithSecret(JWT_SECRET, header, payload) })).status).toBe(200);
    await expectRejected("Parley's secret", signWithSecret(JWT_SECRET, header, issuer.createClaims()));
    await expectRejected(
      "a Parley session with Parley's secret",
      signWithSecret(JWT_SECRET, header, { ...payload, iss: issuer.url, aud: AUDIENCE }),
    );
    await expectRejected("Parley as issuer", await issuer.sign({ ...payload, iss: "parley" }));
    await expectRejected(
      "both as issuers",
      await issuer.sign({ ...payload, iss: ["parley", issuer.url] as unknown as string }),
    );
    await expectRejected(
      "a Parley session with the issuer's signature",
      await issuer.sign({ ...payload, iss: "parley", sub: parleyTokens.user.id }),
    );
  });

  test("if it is signed with an unknown key, even one embedded in the token", async () => {
    const { kid } = getFirstKey();
    const { privateKey, publicKey } = await generateKeyPair("RS256", { extractable: true });
    const jwk = { ...(await crypto.subtle.exportKey("jwk", publicKey)) } as Record<string, unknown>;
    const claims = issuer.createClaims();
    const sign = (header: Record<string, unknown>) =>
      new SignJWT(claims).setProtectedHeader({ alg: "RS256", ...header }).sign(privateKey);
    await expectRejected("another key with this id", await sign({ kid }));
    await expectRejected("no key id", await sign({}));
    await expectRejected("key in the header", await sign({ kid, jwk }));
    await expectRejected("URL of a key", await sign({ kid, jku: "http://127.0.0.1:1/keys" }));
    await expectRejected("certificate", await sign({ kid, x5u: "http://127.0.0.1:1/x", x5c: ["MIIB"] }));
    await expectRejected("a path as key id", await sign({ kid: "../../../../dev/null" }));
  });

  test("if its contents were modified", async () => {
    const [head, body, signature] = (await issuer.sign()).split(".");
    const payload = decode(body);
    await expectRejected("another person", `${head}.${encode({ ...payload, sub: "administrator" })}.${signature}`);
    await expectRejected("later expiry", `${head}.${encode({ ...payload, exp: payload.exp + 1 })}.${signature}`);
    await expectRejected("truncated signature", `${head}.${body}.${signature?.slice(0, -4)}`);
    await expectRejected("another header", `${encode({ ...decode(head), extra: 1 })}.${body}.${signature}`);
    await expectRejected("another algorithm", `${encode({ ...decode(head), alg: "PS256" })}.${body}.${signature}`);
    await expectRejected("invalid JSON", `${head}.${Buffer.from("x").toString("base64url")}.${signature}`);
    await expectRejected("a list", `${head}.${encode([payload])}.${signature}`);
  });

  test("if it has unsupported header fields", async () => {
    await expectRejected("unknown crit", await signRaw({ crit: ["exp"], exp: now() + 60 }));
    await expectRejected("unencoded payload", await signRaw({ crit: ["b64"], b64: false }));
    await expectRejected("empty crit", await signRaw({ crit: [] }));
  });
});

/** Signs a token without the library's header checks. */
async function signRaw(header: Record<string, unknown>, payload: unknown = issuer.createClaims()): Promise<string> {
  const { kid, privateKey } = getFirstKey();
  const signed = `${encode({ alg: "RS256", kid, ...header })}.${encode(payload)}`;
  const signature = await crypto.subtle.sign("RSASSA-PKCS1-v1_5", privateKey as CryptoKey, Buffer.from(signed));
  return `${signed}.${Buffer.from(signature).toString("base64url")}`;
}

describe("the claim check", () => {
  test("accepts a valid token without the library's header checks", async () => {
    expect((await accounts.call("/me", { token: await signRaw({}) })).status).toBe(200);
  });

  test("rejects another audience or issuer", async () => {
    const cases: Record<string, JWTPayload> = {
      "another audience": { aud: "somebody-else" },
      "audience with a suffix": { aud: `${AUDIENCE}2` },
      "audience in uppercase": { aud: AUDIENCE.toUpperCase() },
      "no audience": { aud: undefined as unknown as string },
      "empty audiences": { aud: [] },
      "another issuer": { iss: "https://evil.example.com" },
      "issuer with a slash": { iss: `${issuer.url}/` },
      "issuer as a prefix": { iss: `${issuer.url}.evil.example.com` },
      "no issuer": { iss: undefined as unknown as string },
      "issued to another client": { azp: "somebody-else" },
      "issued to another client, and to Parley": { aud: [AUDIENCE, "somebody-else"], azp: "somebody-else" },
      "issued to a client id with a suffix": { azp: `${AUDIENCE}2` },
      "issued to a list of clients": { azp: [AUDIENCE] },
      "issued to an empty client id": { azp: "" },
      "issued to null": { azp: null },
    };
    for (const [name, changes] of Object.entries(cases)) await expectRejected(name, await issuer.sign(changes));
    for (const validClaims of [{ aud: ["x", AUDIENCE] }, { azp: AUDIENCE }, { aud: ["x", AUDIENCE], azp: AUDIENCE }])
      expect((await accounts.call("/me", { token: await issuer.sign(validClaims) })).status).toBe(200);
  });

  test("rejects tokens that are expired or not yet valid by more than the clock tolerance", async () => {
    const cases: Record<string, JWTPayload> = {
      expired: { exp: now() - CLOCK_TOLERANCE_S - 1 },
      "not yet valid": { nbf: now() + CLOCK_TOLERANCE_S + 5 },
      "no expiry": { exp: undefined as unknown as number },
      "an expiry that is not a number": { exp: "2999-01-01" as unknown as number },
      "valid longer than any session": { exp: now() + ISSUER_TOKEN_TTL_MAX_S + 60 },
      "never expiring": { exp: 1e300 },
      "expired long ago": { exp: -1 },
    };
    for (const [name, changes] of Object.entries(cases))
      await expectRejected(name, await signRaw({}, issuer.createClaims(changes)));
    for (const changes of [
      { exp: now() - CLOCK_TOLERANCE_S + 5 },
      { nbf: now() + CLOCK_TOLERANCE_S - 5 },
      { exp: now() + ISSUER_TOKEN_TTL_MAX_S - 60 },
    ])
      expect((await accounts.call("/me", { token: await issuer.sign(changes) })).status).toBe(200);
  });

  test("rejects a missing or unstorable subject", async () => {
    const cases: Record<string, unknown> = {
      "no subject": undefined,
      "empty subject": "",
      "a number": 7,
      "a list": ["x"],
      "with a NUL": "a\u0000b",
      "with a line break": "a\nb",
      "non-ASCII": "\ud83d\ude00",
      "too long": "x".repeat(256),
    };
    for (const [name, sub] of Object.entries(cases)) {
      const email = `${crypto.randomUUID()}@example.com`;
      await expectRejected(name, await signRaw({}, { ...issuer.createClaims({ email }), sub }));
    }
    const email = `${crypto.randomUUID()}@example.com`;
    expect((await accounts.call("/me", { token: await issuer.sign({ sub: "x".repeat(255), email }) })).status).toBe(
      200,
    );
  });

  test("rejects tokens that are neither ID nor access tokens", async () => {
    const events = { "http://schemas.openid.net/event/backchannel-logout": {} };
    await expectRejected("logout token by type", await issuer.sign({}, { header: { typ: "logout+jwt" } }));
    await expectRejected("logout token by its events", await issuer.sign({ events }));
    await expectRejected("security event", await issuer.sign({}, { header: { typ: "secevent+jwt" } }));
    for (const typ of ["JWT", "jwt", "at+jwt", "application/at+jwt"])
      expect((await accounts.call("/me", { token: await issuer.sign({}, { header: { typ } }) })).status).toBe(200);
  });

  test("rejects tokens above the size limit", async () => {
    const remainingChars = ISSUER_TOKEN_CHARS_MAX - (await issuer.sign({ more: "" })).length;
    const largest = await issuer.sign({ more: "x".repeat(Math.floor((remainingChars * 3) / 4) - 40) });
    expect(largest.length).toBeGreaterThan(ISSUER_TOKEN_CHARS_MAX - 200);
    expect(largest.length).toBeLessThanOrEqual(ISSUER_TOKEN_CHARS_MAX);
    expect((await accounts.call("/me", { token: largest })).status).toBe(200);
    expect((await accounts.call("/auth/oidc", { json: { token: largest } })).status).toBe(200);
    await expectRejected(
      "too large",
      await issuer.sign({ more: "x".repeat(Math.ceil((remainingChars * 3) / 4) + 40) }),
    );
  });
});

describe("a first login", () => {
  const attemptLogin = async (changes: Record<string, unknown>) => {
    const token = await signRaw({}, { ...issuer.createClaims(), ...changes });
    const responses = [await accounts.call("/me", { token }), await accounts.call("/auth/oidc", { json: { token } })];
    return Promise.all(responses.map(readProblem));
  };
  const forbidden = { status: 403, code: "forbidden" };

  test("without a valid email address creates no account", async () => {
    for (const email of [undefined, null, 7, "", "nobody", "a\u0000@example.com", `${"x".repeat(300)}@example.com`])
      expect({ email, problems: await attemptLogin({ email }) }).toEqual({ email, problems: [forbidden, forbidden] });
  });

  test("with an unverified email address creates no account", async () => {
    for (const email_verified of [false, "false", null, 0, "no"])
      expect({ email_verified, problems: await attemptLogin({ email_verified }) }).toEqual({
        email_verified,
        problems: [forbidden, forbidden],
      });
  });

  test("works if the issuer omits email_verified, or sends it as a string", async () => {
    for (const email_verified of [undefined, "true"]) {
      const token = await signRaw({}, { ...issuer.createClaims(), email_verified });
      expect((await readJson<{ id: string }>(await accounts.call("/me", { token }))).id).toEqual(expect.any(String));
    }
  });

  test("replaces a name that can't be stored", async () => {
    for (const name of ["\ud800", "a\u0000b", "", "   ", 7, { x: 1 }]) {
      const token = await signRaw({}, { ...issuer.createClaims(), name });
      expect({ name, status: (await accounts.call("/me", { token })).status }).toEqual({ name, status: 200 });
    }
  });
});

test("an error reveals nothing about the token, the keys or the library", async () => {
  const token = await issuer.sign({ aud: "somebody-else", secret: "in-the-token" });
  for (const response of [
    await accounts.call("/me", { token }),
    await accounts.call("/auth/oidc", { json: { token } }),
  ]) {
    const text = await response.text();
    for (const word of ["jose", "JWT", "aud", "in-the-token", issuer.url, "somebody-else", getFirstKey().kid])
      expect(text).not.toContain(word);
  }
});
