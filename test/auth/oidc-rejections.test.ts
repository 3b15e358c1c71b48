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
let ours: Tokens;
beforeAll(async () => {
  issuer = await startIssuer();
  const options = { issuer: issuer.url, audience: [AUDIENCE], jwksUrl: undefined, isProvisioning: true };
  accounts = await startAccounts({ issuer: options });
  ours = await accounts.register();
});
afterAll(async () => {
  await accounts.stop();
  await issuer.stop();
});

const now = () => Math.floor(Date.now() / 1000);
const refused = { status: 401, code: "unauthorized" };
const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
const decode = (part: string | undefined) => JSON.parse(Buffer.from(String(part), "base64url").toString());
const sealWith = (secret: string | Buffer, header: unknown, payload: unknown) => {
  const signed = `${encode(header)}.${encode(payload)}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
};
const firstKey = () => {
  const key = issuer.keys[0];
  if (!key) throw new Error("The issuer has no key.");
  return key;
};

/** Expects that the token is rejected as a credential and for a login, and that no user is created. */
async function expectRefused(name: string, token: string): Promise<void> {
  const before = await accounts.database`select count(*) as n from users`;
  const sent = /^[\w.~+/=-]*$/.test(token);
  if (sent)
    expect({ name, ...(await readProblem(await accounts.call("/me", { token }))) }).toEqual({ name, ...refused });
  const login = await readProblem(await accounts.call("/auth/oidc", { json: { token } }));
  if (token === "" || token.length > ISSUER_TOKEN_CHARS_MAX)
    expect({ name, ...login }).toEqual({ name, status: 422, code: "invalid" });
  else expect({ name, ...login }).toEqual({ name, ...refused });
  expect(await accounts.database`select count(*) as n from users`).toEqual(before);
}

test("a correctly made token is valid, which shows that the following ones fail for their stated reason", async () => {
  const { kid, privateKey } = firstKey();
  const token = await new SignJWT(issuer.createClaims()).setProtectedHeader({ alg: "RS256", kid }).sign(privateKey);
  expect((await accounts.call("/me", { token })).status).toBe(200);
  expect((await accounts.call("/auth/oidc", { json: { token } })).status).toBe(200);
});

describe("rejects signatures", () => {
  test("that are missing", async () => {
    const [head, body, signature] = (await issuer.sign()).split(".");
    const { kid } = firstKey();
    for (const alg of ["none", "None", "NONE", "nOnE", ""]) {
      await expectRefused(`alg ${alg}`, `${encode({ alg, kid, typ: "JWT" })}.${body}.`);
      await expectRefused(`alg ${alg} with a signature`, `${encode({ alg, kid, typ: "JWT" })}.${body}.${signature}`);
    }
    await expectRefused("no algorithm", `${encode({ kid })}.${body}.${signature}`);
    await expectRefused("no signature", `${head}.${body}.`);
    await expectRefused("two parts", `${head}.${body}`);
    await expectRefused("unsecured", new UnsecuredJWT(issuer.createClaims()).encode());
  });

  test("by a shared secret equal to the public key: algorithm confusion", async () => {
    const { kid, jwk } = firstKey();
    const key = await importJWK({ ...jwk, ext: true }, "RS256");
    if (key instanceof Uint8Array) throw new Error("Not a public key.");
    const pem = await exportSPKI(key);
    const secrets = {
      pem,
      "pem, trimmed": pem.trim(),
      jwk: JSON.stringify(jwk),
      n: Buffer.from(String(jwk.n), "base64url"),
    };
    for (const [form, secret] of Object.entries(secrets))
      for (const header of [{ alg: "HS256", kid }, { alg: "HS256" }, { alg: "RS256", kid }])
        await expectRefused(`${form} ${header.alg}`, sealWith(secret, header, issuer.createClaims()));
  });

  test("by Parley's secret with the issuer's name, and by the issuer's key with Parley's name", async () => {
    const payload = decode(ours.access_token.split(".")[1]);
    const own = { alg: "HS256", typ: "JWT" };
    expect((await accounts.call("/me", { token: sealWith(JWT_SECRET, own, payload) })).status).toBe(200);
    await expectRefused("our secret", sealWith(JWT_SECRET, own, issuer.createClaims()));
    await expectRefused("our session", sealWith(JWT_SECRET, own, { ...payload, iss: issuer.url, aud: AUDIENCE }));
    await expectRefused("our name", await issuer.sign({ ...payload, iss: "parley" }));
    await expectRefused(
      "both names",
      await issuer.sign({ ...payload, iss: ["parley", issuer.url] as unknown as string }),
    );
    await expectRefused(
      "a Parley session in a token of the issuer",
      await issuer.sign({ ...payload, iss: "parley", sub: ours.user.id }),
    );
  });

  test("by an unknown key, also one embedded in the token", async () => {
    const { kid } = firstKey();
    const { privateKey, publicKey } = await generateKeyPair("RS256", { extractable: true });
    const jwk = { ...(await crypto.subtle.exportKey("jwk", publicKey)) } as Record<string, unknown>;
    const claims = issuer.createClaims();
    const sign = (header: Record<string, unknown>) =>
      new SignJWT(claims).setProtectedHeader({ alg: "RS256", ...header }).sign(privateKey);
    await expectRefused("another key with this id", await sign({ kid }));
    await expectRefused("no name", await sign({}));
    await expectRefused("key in the header", await sign({ kid, jwk }));
    await expectRefused("URL of a key", await sign({ kid, jku: "http://127.0.0.1:1/keys" }));
    await expectRefused("certificate", await sign({ kid, x5u: "http://127.0.0.1:1/x", x5c: ["MIIB"] }));
    await expectRefused("a path as key id", await sign({ kid: "../../../../dev/null" }));
  });

  test("over modified contents", async () => {
    const [head, body, signature] = (await issuer.sign()).split(".");
    const payload = decode(body);
    await expectRefused("another person", `${head}.${encode({ ...payload, sub: "administrator" })}.${signature}`);
    await expectRefused("later end", `${head}.${encode({ ...payload, exp: payload.exp + 1 })}.${signature}`);
    await expectRefused("cut signature", `${head}.${body}.${signature?.slice(0, -4)}`);
    await expectRefused("another header", `${encode({ ...decode(head), extra: 1 })}.${body}.${signature}`);
    await expectRefused("another algorithm", `${encode({ ...decode(head), alg: "PS256" })}.${body}.${signature}`);
    await expectRefused("no JSON", `${head}.${Buffer.from("x").toString("base64url")}.${signature}`);
    await expectRefused("a list", `${head}.${encode([payload])}.${signature}`);
  });

  test("with unsupported headers", async () => {
    await expectRefused("unknown crit", await signRaw({ crit: ["exp"], exp: now() + 60 }));
    await expectRefused("unencoded payload", await signRaw({ crit: ["b64"], b64: false }));
    await expectRefused("empty crit", await signRaw({ crit: [] }));
  });
});

/** Signs without the library's checks of the header. */
async function signRaw(header: Record<string, unknown>, payload: unknown = issuer.createClaims()): Promise<string> {
  const { kid, privateKey } = firstKey();
  const signed = `${encode({ alg: "RS256", kid, ...header })}.${encode(payload)}`;
  const signature = await crypto.subtle.sign("RSASSA-PKCS1-v1_5", privateKey as CryptoKey, Buffer.from(signed));
  return `${signed}.${Buffer.from(signature).toString("base64url")}`;
}

describe("claims", () => {
  test("a token signed this way is valid", async () => {
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
    for (const [name, changes] of Object.entries(cases)) await expectRefused(name, await issuer.sign(changes));
    for (const good of [{ aud: ["x", AUDIENCE] }, { azp: AUDIENCE }, { aud: ["x", AUDIENCE], azp: AUDIENCE }])
      expect((await accounts.call("/me", { token: await issuer.sign(good) })).status).toBe(200);
  });

  test("rejects expired and not yet valid tokens, beyond the clock tolerance", async () => {
    const cases: Record<string, JWTPayload> = {
      expired: { exp: now() - CLOCK_TOLERANCE_S - 1 },
      "not yet valid": { nbf: now() + CLOCK_TOLERANCE_S + 5 },
      "no end": { exp: undefined as unknown as number },
      "an expiry that is not a number": { exp: "2999-01-01" as unknown as number },
      "valid longer than any session": { exp: now() + ISSUER_TOKEN_TTL_MAX_S + 60 },
      "never expiring": { exp: 1e300 },
      "expired long ago": { exp: -1 },
    };
    for (const [name, changes] of Object.entries(cases))
      await expectRefused(name, await signRaw({}, issuer.createClaims(changes)));
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
      "NUL in it": "a\u0000b",
      "line break in it": "a\nb",
      "non-ASCII": "\ud83d\ude00",
      "too long": "x".repeat(256),
    };
    for (const [name, sub] of Object.entries(cases)) {
      const email = `${crypto.randomUUID()}@example.com`;
      await expectRefused(name, await signRaw({}, { ...issuer.createClaims({ email }), sub }));
    }
    const email = `${crypto.randomUUID()}@example.com`;
    expect((await accounts.call("/me", { token: await issuer.sign({ sub: "x".repeat(255), email }) })).status).toBe(
      200,
    );
  });

  test("rejects tokens that are neither ID nor access tokens", async () => {
    const events = { "http://schemas.openid.net/event/backchannel-logout": {} };
    await expectRefused("logout token by type", await issuer.sign({}, { header: { typ: "logout+jwt" } }));
    await expectRefused("logout token by its events", await issuer.sign({ events }));
    await expectRefused("security event", await issuer.sign({}, { header: { typ: "secevent+jwt" } }));
    for (const typ of ["JWT", "jwt", "at+jwt", "application/at+jwt"])
      expect((await accounts.call("/me", { token: await issuer.sign({}, { header: { typ } }) })).status).toBe(200);
  });

  test("rejects tokens above the size limit, in a header and in a body", async () => {
    const room = ISSUER_TOKEN_CHARS_MAX - (await issuer.sign({ more: "" })).length;
    const largest = await issuer.sign({ more: "x".repeat(Math.floor((room * 3) / 4) - 40) });
    expect(largest.length).toBeGreaterThan(ISSUER_TOKEN_CHARS_MAX - 200);
    expect(largest.length).toBeLessThanOrEqual(ISSUER_TOKEN_CHARS_MAX);
    expect((await accounts.call("/me", { token: largest })).status).toBe(200);
    expect((await accounts.call("/auth/oidc", { json: { token: largest } })).status).toBe(200);
    await expectRefused("too large", await issuer.sign({ more: "x".repeat(Math.ceil((room * 3) / 4) + 40) }));
  });
});

describe("a first login", () => {
  const ask = async (changes: Record<string, unknown>) => {
    const token = await signRaw({}, { ...issuer.createClaims(), ...changes });
    const answers = [await accounts.call("/me", { token }), await accounts.call("/auth/oidc", { json: { token } })];
    return Promise.all(answers.map(readProblem));
  };
  const forbidden = { status: 403, code: "forbidden" };

  test("without an address, or with an invalid one, creates no account", async () => {
    for (const email of [undefined, null, 7, "", "nobody", "a\u0000@example.com", `${"x".repeat(300)}@example.com`])
      expect({ email, answers: await ask({ email }) }).toEqual({ email, answers: [forbidden, forbidden] });
  });

  test("with an unverified address creates no account", async () => {
    for (const email_verified of [false, "false", null, 0, "no"])
      expect({ email_verified, answers: await ask({ email_verified }) }).toEqual({
        email_verified,
        answers: [forbidden, forbidden],
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
  for (const answer of [
    await accounts.call("/me", { token }),
    await accounts.call("/auth/oidc", { json: { token } }),
  ]) {
    const text = await answer.text();
    for (const word of ["jose", "JWT", "aud", "in-the-token", issuer.url, "somebody-else", firstKey().kid])
      expect(text).not.toContain(word);
  }
});
