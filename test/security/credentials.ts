import { SignJWT } from "jose";
import { type Scope, scopes } from "../../src/access/scopes.ts";
import { createId } from "../../src/lib/id.ts";
import type { Account, TestClient } from "../support/client.ts";
import { TEST_PASSWORD } from "../support/client.ts";
import { createRestClient } from "../support/rest.ts";

export const JWT_SECRET = "a secret for the attack suite: 0123456789";

/** A token, or null to send none, and additional headers. The name appears in failures. */
export type Credential = { name: string; token: string | null; headers?: Record<string, string> };

type ServerUnderTest = { parley: TestClient; sql: { unsafe(text: string, values: string[]): PromiseLike<unknown> } };

/** Creates all kinds of invalid credentials. Some are derived from an administrator's tokens. */
export async function createInvalidCredentials(
  { parley, sql }: ServerUnderTest,
  admin: Account,
): Promise<Credential[]> {
  const [header = "", payload = "", signature = ""] = admin.access_token.split(".");
  const claims = JSON.parse(Buffer.from(payload, "base64url").toString()) as Record<string, string>;
  const { iss = "", sid = "", sub = "" } = claims;
  const signAdminToken = (change: (jwt: SignJWT) => SignJWT, overrides: Partial<SigningOptions> = {}) =>
    signToken(change, { issuer: iss, userId: sub, sessionId: sid, ...overrides });
  const encodeJson = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const validToken = await signAdminToken((jwt) => jwt);
  const response = await parley.fetch("/api/v1/me", { token: validToken });
  if (response.status !== 200) throw new Error("A valid token created here is rejected.");
  const otherUser = await parley.register();
  const keys = await createInvalidKeys({ parley, sql }, admin);

  return [
    { name: "no token", token: null },
    { name: "an empty token", token: "" },
    { name: "garbage", token: "garbage" },
    { name: "three dots", token: "..." },
    {
      name: "a token with a changed payload",
      token: [header, encodeJson({ ...claims, sub: otherUser.user.id }), signature].join("."),
    },
    { name: "a token with a changed signature", token: [header, payload, changeLastCharacter(signature)].join(".") },
    { name: "a token without its signature", token: `${header}.${payload}.` },
    { name: "a token with alg none", token: `${encodeJson({ alg: "none", typ: "JWT" })}.${payload}.` },
    { name: "a token with alg none and a signature", token: `${encodeJson({ alg: "none" })}.${payload}.${signature}` },
    {
      name: "a token signed with a different secret",
      token: await signAdminToken((jwt) => jwt, { secret: `${JWT_SECRET}.` }),
    },
    { name: "a token with a different algorithm", token: await signAdminToken((jwt) => jwt, { alg: "HS512" }) },
    { name: "a token from another issuer", token: await signAdminToken((jwt) => jwt.setIssuer("somebody")) },
    { name: "an expired token", token: await signAdminToken((jwt) => jwt.setExpirationTime("-1s")) },
    {
      name: "a token that is not valid yet",
      token: await signAdminToken((jwt) => jwt.setNotBefore("1d").setExpirationTime("2d")),
    },
    {
      name: "a token with another user's session",
      token: await signAdminToken((jwt) => jwt.setSubject(otherUser.user.id)),
    },
    { name: "a token with an unknown session", token: await signAdminToken((jwt) => jwt, { sessionId: createId() }) },
    { name: "a token without a session", token: await signAdminToken((jwt) => jwt, { sessionId: undefined }) },
    { name: "a refresh token", token: admin.refresh_token },
    { name: "a ticket", token: await createTicket(parley, admin) },
    { name: "the token of a revoked session", token: await createRevokedToken(parley) },
    { name: "the token of a disabled user", token: await createDisabledUserToken(parley, admin) },
    { name: "the token of a deleted user", token: await createDeletedUserToken(parley) },
    ...keys,
  ];
}

/** Creates an API key with all scopes and, for each scope, a key with only that scope and a key with all others except `admin`. */
export async function createKeys(parley: TestClient, owner: Account) {
  const createKeyWithScopes = (granted: readonly Scope[]) => createApiKey(parley, owner, granted);
  const ordinaryScopes = scopes.filter((scope) => scope !== "admin");
  return {
    all: await createKeyWithScopes(scopes),
    withoutScope: new Map(
      await Promise.all(
        scopes.map(
          async (scope) =>
            [scope as string, await createKeyWithScopes(ordinaryScopes.filter((other) => other !== scope))] as const,
        ),
      ),
    ),
    onlyScope: new Map(
      await Promise.all(scopes.map(async (scope) => [scope as string, await createKeyWithScopes([scope])] as const)),
    ),
  };
}

/** Creates an API key for `owner`, and returns it. */
export async function createApiKey(parley: TestClient, owner: Account, granted: readonly Scope[]): Promise<string> {
  return (await createKeyWithId(parley, owner, granted)).key;
}

async function createKeyWithId(parley: TestClient, owner: Account, granted: readonly Scope[]) {
  const json = { name: "Test", scopes: granted };
  const { status, body } = await createRestClient(parley, owner).request<{ id: string; key: string }>(
    "POST",
    "/api-keys",
    json,
  );
  if (status !== 201) throw new Error(`api key: ${status} ${JSON.stringify(body)}`);
  return body;
}

async function createInvalidKeys({ parley, sql }: ServerUnderTest, admin: Account): Promise<Credential[]> {
  const [activeKey, revokedKey, expiredKey] = await Promise.all([
    createKeyWithId(parley, admin, scopes),
    createKeyWithId(parley, admin, scopes),
    createKeyWithId(parley, admin, scopes),
  ]);
  await createRestClient(parley, admin).request("DELETE", `/api-keys/${revokedKey.id}`);
  await sql.unsafe("update api_keys set expires_at = now() - interval '1 second' where id = $1", [expiredKey.id]);
  return [
    { name: "a key with an invalid checksum", token: changeLastCharacter(activeKey.key) },
    {
      name: "a key with a changed character",
      token: `pk_${changeLastCharacter(activeKey.key.slice(3, 4))}${activeKey.key.slice(4)}`,
    },
    { name: "an unknown key", token: "pk_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17" },
    { name: "a revoked key", token: revokedKey.key },
    { name: "an expired key", token: expiredKey.key },
    { name: "a revoked key in X-API-Key", token: null, headers: { "x-api-key": revokedKey.key } },
    { name: "a valid key with an invalid token", token: "garbage", headers: { "x-api-key": activeKey.key } },
  ];
}

/** Changes the last character so that the decoded bytes change too. */
const changeLastCharacter = (text: string) => `${text.slice(0, -1)}${text.endsWith("A") ? "Q" : "A"}`;

type SigningOptions = { issuer: string; userId: string; sessionId: string | undefined; secret: string; alg: string };

/** Signs an access token as Parley does, after applying `change`. */
function signToken(change: (jwt: SignJWT) => SignJWT, signing: Partial<SigningOptions>): Promise<string> {
  const { issuer = "", userId = "", sessionId, secret = JWT_SECRET, alg = "HS256" } = signing;
  const jwt = new SignJWT(sessionId === undefined ? {} : { sid: sessionId })
    .setProtectedHeader({ alg, typ: "JWT" })
    .setSubject(userId)
    .setIssuer(issuer)
    .setIssuedAt()
    .setExpirationTime("10m");
  return change(jwt).sign(Buffer.from(secret));
}

async function createTicket(parley: TestClient, account: Account): Promise<string> {
  const response = await parley.fetch("/api/v1/auth/ticket", { method: "POST", token: account.access_token });
  return ((await response.json()) as { ticket: string }).ticket;
}

async function createRevokedToken(parley: TestClient): Promise<string> {
  const account = await parley.register();
  await parley.fetch("/api/v1/auth/logout", { json: { refresh_token: account.refresh_token } });
  return account.access_token;
}

async function createDisabledUserToken(parley: TestClient, admin: Account): Promise<string> {
  const account = await parley.register();
  const { status, body } = await createRestClient(parley, admin).request("PATCH", `/users/${account.user.id}`, {
    disabled: true,
  });
  if (status !== 200) throw new Error(`disable: ${status} ${JSON.stringify(body)}`);
  return account.access_token;
}

async function createDeletedUserToken(parley: TestClient): Promise<string> {
  const account = await parley.register();
  await createRestClient(parley, account).request("DELETE", "/me", { current_password: TEST_PASSWORD });
  return account.access_token;
}
