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

const getNowS = () => Math.floor(Date.now() / 1000);
const unauthorized = { status: 401, code: "unauthorized" };
const encodeJson = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
const decodeJson = (part: string | undefined) => JSON.parse(Buffer.from(String(part), "base64url").toString());
const signWithSecret = (secret: string | Buffer, header: unknown, payload: unknown) => {
  const signedPart = `${encodeJson(header)}.${encodeJson(payload)}`;
  return `${signedPart}.${createHmac("sha256", secret).update(signedPart).digest("base64url")}`;
};
const getFirstKey = () => {
  const key = issuer.keys[0];
  if (!key) throw new Error("The issuer has no key.");
  return key;
};

/** Expects that a token is rejected, as a credential and for a login, and that no user is created. */
async function expectRejected(name: string, token: string): Promise<void> {
  const usersBefore = await accounts.database`select count(*) as n from users`;
  const isHeaderValue = /^[\w.~+/=-]*$/.test(token);
  if (isHeaderValue)
    expect({ name, ...(await readProblem(await accounts.sendRequest("/me", { token }))) }).toEqual({
      name,
      ...unauthorized,
    });
  const login = await readProblem(await accounts.sendRequest("/auth/oidc", { json: { token } }));
  if (token === "" || token.length > ISSUER_TOKEN_CHARS_MAX)
    expect({ name, ...login }).toEqual({ name, status: 422, code: "invalid" });
  else expect({ name, ...login }).toEqual({ name, ...unauthorized });
  expect(await accounts.database`select count(*) as n from users`).toEqual(usersBefore);
}

test("a token signed by the issuer is valid, which proves that the tokens below fail for the stated reasons", async () => {
  const { kid, privateKey } = getFirstKey();
  const token = await new SignJWT(issuer.createClaims()).setProtectedHeader({ alg: "RS256", kid }).sign(privateKey);
  expect((await accounts.sendRequest("/me", { token })).status).toBe(200);
  expect((await accounts.sendRequest("/auth/oidc", { json: { token } })).status).toBe(200);
});

describe("a token is rejected", () => {
  test("if it has no signature", async () => {
    const [head, body, signature] = (await issuer.sign()).split(".");
    const { kid } = getFirstKey();
    for (const alg of ["none", "None", "NONE", "nOnE", ""]) {
      await expectRejected(`alg ${alg}`, `${encodeJson({ alg, kid, typ: "JWT" })}.${body}.`);
      await expectRejected(
        `alg ${alg} with a signature`,
        `${encodeJson({ alg, kid, typ: "JWT" })}.${body}.${signature}`,
      );
    }
    await expectRejected("no algorithm", `${encodeJson({ kid })}.${body}.${signature}`);
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

  test("if its signature and its issuer don't match", async () => {
    const payload = decodeJson(parleyTokens.access_token.split(".")[1]);
    const header = { alg: "HS256", typ: "JWT" };
    expect((await accounts.sendRequest("/me", { token: signWithSecret(JWT_SECRET, header, payload) })).status).toBe(
      200,
    );
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
    const signWithUnknownKey = (header: Record<string, unknown>) =>
      new SignJWT(claims).setProtectedHeader({ alg: "RS256", ...header }).sign(privateKey);
    await expectRejected("a different key with this id", await signWithUnknownKey({ kid }));
    await expectRejected("no key id", await signWithUnknownKey({}));
    await expectRejected("key in the header", await signWithUnknownKey({ kid, jwk }));
    await expectRejected("URL of a key", await signWithUnknownKey({ kid, jku: "http://127.0.0.1:1/keys" }));
    await expectRejected("certificate", await signWithUnknownKey({ kid, x5u: "http://127.0.0.1:1/x", x5c: ["MIIB"] }));
    await expectRejected("a path as key id", await signWithUnknownKey({ kid: "../../../../dev/null" }));
  });

  test("if its contents were modified", async () => {
    const [head, body, signature] = (await issuer.sign()).split(".");
    const payload = decodeJson(body);
    await expectRejected(
      "a different person",
      `${head}.${encodeJson({ ...payload, sub: "administrator" })}.${signature}`,
    );
    await expectRejected("later expiry", `${head}.${encodeJson({ ...payload, exp: payload.exp + 1 })}.${signature}`);
    await expectRejected("truncated signature", `${head}.${body}.${signature?.slice(0, -4)}`);
    await expectRejected("a different header", `${encodeJson({ ...decodeJson(head), extra: 1 })}.${body}.${signature}`);
    await expectRejected(
      "a different algorithm",
      `${encodeJson({ ...decodeJson(head), alg: "PS256" })}.${body}.${signature}`,
    );
    await expectRejected("invalid JSON", `${head}.${Buffer.from("x").toString("base64url")}.${signature}`);
    await expectRejected("a list", `${head}.${encodeJson([payload])}.${signature}`);
  });

  test("if it has unsupported header fields", async () => {
    await expectRejected("unknown crit", await signRaw({ crit: ["exp"], exp: getNowS() + 60 }));
    await expectRejected("unencoded payload", await signRaw({ crit: ["b64"], b64: false }));
    await expectRejected("empty crit", await signRaw({ crit: [] }));
  });
});

/** Signs a token without the library's header checks. */
async function signRaw(header: Record<string, unknown>, payload: unknown = issuer.createClaims()): Promise<string> {
  const { kid, privateKey } = getFirstKey();
  const signedPart = `${encodeJson({ alg: "RS256", kid, ...header })}.${encodeJson(payload)}`;
  const signature = await crypto.subtle.sign("RSASSA-PKCS1-v1_5", privateKey as CryptoKey, Buffer.from(signedPart));
  return `${signedPart}.${Buffer.from(signature).toString("base64url")}`;
}

describe("the claim check", () => {
  test("accepts a valid token without the library's header checks", async () => {
    expect((await accounts.sendRequest("/me", { token: await signRaw({}) })).status).toBe(200);
  });

  test("rejects a different audience or issuer", async () => {
    const cases: Record<string, JWTPayload> = {
      "a different audience": { aud: "somebody-else" },
      "audience with a suffix": { aud: `${AUDIENCE}2` },
      "audience in uppercase": { aud: AUDIENCE.toUpperCase() },
      "no audience": { aud: undefined as unknown as string },
      "empty audiences": { aud: [] },
      "a different issuer": { iss: "https://evil.example.com" },
      "issuer with a slash": { iss: `${issuer.url}/` },
      "issuer as a prefix": { iss: `${issuer.url}.evil.example.com` },
      "no issuer": { iss: undefined as unknown as string },
      "issued to a different client": { azp: "somebody-else" },
      "issued to a different client, and to Parley": { aud: [AUDIENCE, "somebody-else"], azp: "somebody-else" },
      "issued to a client id with a suffix": { azp: `${AUDIENCE}2` },
      "issued to a list of clients": { azp: [AUDIENCE] },
      "issued to an empty client id": { azp: "" },
      "issued to null": { azp: null },
    };
    for (const [name, changes] of Object.entries(cases)) await expectRejected(name, await issuer.sign(changes));
    for (const validClaims of [{ aud: ["x", AUDIENCE] }, { azp: AUDIENCE }, { aud: ["x", AUDIENCE], azp: AUDIENCE }])
      expect((await accounts.sendRequest("/me", { token: await issuer.sign(validClaims) })).status).toBe(200);
  });

  test("rejects tokens whose expiry or start time exceeds the clock tolerance", async () => {
    const cases: Record<string, JWTPayload> = {
      expired: { exp: getNowS() - CLOCK_TOLERANCE_S - 1 },
      "not yet valid": { nbf: getNowS() + CLOCK_TOLERANCE_S + 5 },
      "no expiry": { exp: undefined as unknown as number },
      "an expiry that is not a number": { exp: "2999-01-01" as unknown as number },
      "valid longer than any session": { exp: getNowS() + ISSUER_TOKEN_TTL_MAX_S + 60 },
      "never expiring": { exp: 1e300 },
      "expired long ago": { exp: -1 },
    };
    for (const [name, changes] of Object.entries(cases))
      await expectRejected(name, await signRaw({}, issuer.createClaims(changes)));
    for (const changes of [
      { exp: getNowS() - CLOCK_TOLERANCE_S + 5 },
      { nbf: getNowS() + CLOCK_TOLERANCE_S - 5 },
      { exp: getNowS() + ISSUER_TOKEN_TTL_MAX_S - 60 },
    ])
      expect((await accounts.sendRequest("/me", { token: await issuer.sign(changes) })).status).toBe(200);
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
    expect(
      (await accounts.sendRequest("/me", { token: await issuer.sign({ sub: "x".repeat(255), email }) })).status,
    ).toBe(200);
  });

  test("rejects tokens that are neither ID nor access tokens", async () => {
    const events = { "http://schemas.openid.net/event/backchannel-logout": {} };
    await expectRejected("logout token by type", await issuer.sign({}, { header: { typ: "logout+jwt" } }));
    await expectRejected("logout token by its events", await issuer.sign({ events }));
    await expectRejected("security event", await issuer.sign({}, { header: { typ: "secevent+jwt" } }));
    for (const typ of ["JWT", "jwt", "at+jwt", "application/at+jwt"])
      expect((await accounts.sendRequest("/me", { token: await issuer.sign({}, { header: { typ } }) })).status).toBe(
        200,
      );
  });

  test("rejects tokens above the size limit", async () => {
    const remainingChars = ISSUER_TOKEN_CHARS_MAX - (await issuer.sign({ more: "" })).length;
    const largestToken = await issuer.sign({ more: "x".repeat(Math.floor((remainingChars * 3) / 4) - 40) });
    expect(largestToken.length).toBeGreaterThan(ISSUER_TOKEN_CHARS_MAX - 200);
    expect(largestToken.length).toBeLessThanOrEqual(ISSUER_TOKEN_CHARS_MAX);
    expect((await accounts.sendRequest("/me", { token: largestToken })).status).toBe(200);
    expect((await accounts.sendRequest("/auth/oidc", { json: { token: largestToken } })).status).toBe(200);
    await expectRejected(
      "too large",
      await issuer.sign({ more: "x".repeat(Math.ceil((remainingChars * 3) / 4) + 40) }),
    );
  });
});

describe("a first login", () => {
  const attemptLogin = async (changes: Record<string, unknown>) => {
    const token = await signRaw({}, { ...issuer.createClaims(), ...changes });
    const responses = [
      await accounts.sendRequest("/me", { token }),
      await accounts.sendRequest("/auth/oidc", { json: { token } }),
    ];
    return Promise.all(responses.map(readProblem));
  };
  const forbidden = { status: 403, code: "forbidden" };

  test("creates no account without a valid email address", async () => {
    for (const email of [undefined, null, 7, "", "nobody", "a\u0000@example.com", `${"x".repeat(300)}@example.com`])
      expect({ email, problems: await attemptLogin({ email }) }).toEqual({ email, problems: [forbidden, forbidden] });
  });

  test("creates no account if the email address is unverified", async () => {
    for (const email_verified of [false, "false", null, 0, "no"])
      expect({ email_verified, problems: await attemptLogin({ email_verified }) }).toEqual({
        email_verified,
        problems: [forbidden, forbidden],
      });
  });

  test("works if the issuer omits email_verified, or sends it as a string", async () => {
    for (const email_verified of [undefined, "true"]) {
      const token = await signRaw({}, { ...issuer.createClaims(), email_verified });
      expect((await readJson<{ id: string }>(await accounts.sendRequest("/me", { token }))).id).toEqual(
        expect.any(String),
      );
    }
  });

  test("replaces a name that can't be stored", async () => {
    for (const name of ["\ud800", "a\u0000b", "", "   ", 7, { x: 1 }]) {
      const token = await signRaw({}, { ...issuer.createClaims(), name });
      expect({ name, status: (await accounts.sendRequest("/me", { token })).status }).toEqual({ name, status: 200 });
    }
  });
});

test("an error reveals nothing about the token, the keys or the library", async () => {
  const token = await issuer.sign({ aud: "somebody-else", secret: "in-the-token" });
  for (const response of [
    await accounts.sendRequest("/me", { token }),
    await accounts.sendRequest("/auth/oidc", { json: { token } }),
  ]) {
    const text = await response.text();
    for (const word of ["jose", "JWT", "aud", "in-the-token", issuer.url, "somebody-else", getFirstKey().kid])
      expect(text).not.toContain(word);
  }
});
