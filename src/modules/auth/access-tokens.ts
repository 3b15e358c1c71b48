import { jwt } from "@elysiajs/jwt";
import { BoundedCache } from "../../cache/bounded-cache.ts";
import { isUuid } from "../../lib/schema.ts";
import { ACCESS_TOKEN_TTL_S, IDENTITIES_CACHED_MAX, TOKEN_CHARS_MAX } from "./limits.ts";

const ISSUER = "parley";
const ALGORITHM = "HS256";
const verifyOptions = { algorithms: [ALGORITHM], issuer: ISSUER, requiredClaims: ["sub", "sid", "iat", "exp"] };

type AccessClaims = { userId: string; sessionId: string; expiresAtMs: number };

/**
 * Signs and verifies access tokens, which are JWTs that identify the user and the session. A valid token doesn't prove that its session is
 * still live. Access tokens are created with @elysiajs/jwt. Issuers' tokens are verified with `jose` (oidc/).
 */
export interface AccessTokenSigner {
  /** Creates a token that expires after `ACCESS_TOKEN_TTL_S`. */
  sign(session: { userId: string; sessionId: string }): Promise<string>;

  /** Returns the claims of an access token, or null if it is invalid or has expired. */
  verify(token: string): Promise<AccessClaims | null>;
}

export function createAccessTokenSigner(secret: string): AccessTokenSigner {
  // The plugin is never mounted, because `sign` and `verify` work without a request context.
  const { sign, verify } = jwt({ name: "jwt", secret, alg: ALGORITHM, iss: ISSUER }).decorator.jwt;
  // A verified signature stays valid, so for cached tokens only the expiry is checked. No token is valid for longer than its cache entry.
  const verifiedClaims = new BoundedCache<AccessClaims>({
    maxSize: IDENTITIES_CACHED_MAX,
    ttlMs: ACCESS_TOKEN_TTL_S * 1_000,
  });

  return {
    sign({ userId, sessionId }) {
      const exp = Math.floor(Date.now() / 1000) + ACCESS_TOKEN_TTL_S;
      return sign({ sub: userId, sid: sessionId, exp });
    },

    async verify(token) {
      const cached = verifiedClaims.get(token);
      if (cached) return cached.expiresAtMs > Date.now() ? cached : null;
      if (token.length > TOKEN_CHARS_MAX) return null;
      const claims = mapToClaims(await verify(token, verifyOptions));
      if (claims) verifiedClaims.set(token, claims);
      return claims;
    },
  };
}

function mapToClaims(payload: Record<string, unknown> | false): AccessClaims | null {
  if (payload === false) return null;
  const { sub, sid, exp } = payload;
  if (typeof sub !== "string" || typeof sid !== "string" || typeof exp !== "number") return null;
  return isUuid(sub) && isUuid(sid) ? { userId: sub, sessionId: sid, expiresAtMs: exp * 1000 } : null;
}
