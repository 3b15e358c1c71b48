import type { TLSOptions } from "bun";
import { type CryptoKey, exportJWK, generateKeyPair, type JWK, type JWTPayload, SignJWT } from "jose";

/** How the issuer responds to requests for its keys. */
type Mode = "working" | "down" | "html" | "huge" | "slow" | "redirect" | "no keys" | "another issuer's document";

type SigningKey = { kid: string; alg: string; privateKey: CryptoKey; jwk: JWK };

export const AUDIENCE = "parley";

export type Issuer = Awaited<ReturnType<typeof startIssuer>>;

/** Starts a mock OpenID Connect issuer with discovery, key rotation, tokens and failure modes. */
export async function startIssuer({ host = "127.0.0.1", tls }: { host?: string; tls?: TLSOptions } = {}) {
  const state = { mode: "working" as Mode, keyRequests: 0, discoveries: 0, internalRequests: 0 };
  let keys: SigningKey[] = [];
  let subjectCount = 0;

  // The target of a redirect: an internal resource that Parley must not read.
  const internalServer = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch() {
      state.internalRequests += 1;
      return Response.json({ keys: keys.map(({ jwk }) => jwk) });
    },
  });
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    ...(tls && { tls }),
    async fetch(request): Promise<Response> {
      const { pathname } = new URL(request.url);
      if (pathname === "/.well-known/openid-configuration") {
        state.discoveries += 1;
        const issuer = state.mode === "another issuer's document" ? "https://somebody.example.com" : url;
        return Response.json({ issuer, jwks_uri: `${url}/keys` });
      }
      if (pathname !== "/keys") return new Response(null, { status: 404 });
      state.keyRequests += 1;
      return respondWithKeys(request.signal);
    },
  });
  const url: string = `${tls ? "https" : "http"}://${host}:${server.port}`;

  async function respondWithKeys(signal: AbortSignal): Promise<Response> {
    const keySet = { keys: keys.map(({ jwk }) => jwk) };
    switch (state.mode) {
      case "down":
        return new Response("Bad Gateway", { status: 502 });
      case "html":
        return new Response("<!doctype html><title>Log in</title>", { headers: { "content-type": "text/html" } });
      case "huge":
        return Response.json({ ...keySet, padding: "x".repeat(5 * 1024 * 1024) });
      case "slow":
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
        return Response.json(keySet);
      case "redirect":
        return Response.redirect(`http://127.0.0.1:${internalServer.port}/keys`, 302);
      case "no keys":
        return Response.json({ error: "none" });
      default:
        return Response.json(keySet);
    }
  }

  /** Adds a key to the existing ones. */
  async function addKey(alg: string): Promise<SigningKey> {
    const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
    const kid = `${alg}-${keys.length + 1}-${crypto.randomUUID()}`;
    const key = { kid, alg, privateKey, jwk: { ...(await exportJWK(publicKey)), kid, alg, use: "sig" } };
    keys.push(key);
    return key;
  }

  /** Creates the claims of a valid ID token, for a new user unless `sub` is given. */
  function createClaims(changes: JWTPayload = {}): JWTPayload {
    const now = Math.floor(Date.now() / 1000);
    subjectCount += 1;
    const sub = `person-${subjectCount}-${crypto.randomUUID()}`;
    const email = `${changes.sub ?? sub}@example.com`;
    const userClaims = { sub, email, email_verified: true, name: "Ada of the Issuer" };
    return { iss: url, aud: AUDIENCE, iat: now, exp: now + 300, ...userClaims, ...changes };
  }

  await addKey("RS256");

  return {
    url,
    state,
    addKey,
    createClaims,

    get keys(): readonly SigningKey[] {
      return keys;
    },

    /** Removes all keys except the given one. */
    keepOnlyKey(key: SigningKey): void {
      keys = [key];
    },

    /** Signs a token that is valid except for the given changes. */
    sign(
      changes: JWTPayload = {},
      { key = keys[0], header = {} }: { key?: SigningKey | undefined; header?: Record<string, unknown> } = {},
    ): Promise<string> {
      if (!key) throw new Error("The issuer has no key.");
      return new SignJWT(createClaims(changes))
        .setProtectedHeader({ alg: key.alg, kid: key.kid, typ: "JWT", ...header })
        .sign(key.privateKey);
    },

    async stop(): Promise<void> {
      await server.stop(true);
      await internalServer.stop(true);
    },
  };
}
