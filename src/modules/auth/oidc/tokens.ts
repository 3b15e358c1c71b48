import { createHash } from "node:crypto";
import { decodeJwt, type JWTVerifyGetKey, type JWTVerifyResult, jwtVerify } from "jose";
import { BoundedCache } from "../../../cache/bounded-cache.ts";
import { Problem } from "../../../lib/problem.ts";
import { hasVisibleCharacter } from "../../../lib/text.ts";
import { IDENTITIES_CACHED_MAX } from "../limits.ts";
import { KeysUnavailableError } from "./keys.ts";
import {
  CLOCK_TOLERANCE_S,
  ISSUER_TOKEN_CHARS_MAX,
  ISSUER_TOKEN_TTL_MAX_S,
  type KeyTimes,
  SUBJECT_CHARS_MAX,
} from "./limits.ts";

/** The accepted algorithms, which all use public keys. With a shared secret, anyone who can verify a token could forge one. */
const algorithms = [
  "RS256",
  "RS384",
  "RS512",
  "PS256",
  "PS384",
  "PS512",
  "ES256",
  "ES384",
  "ES512",
  "EdDSA",
  "Ed25519",
];
/**
 * The accepted `typ` headers, of ID tokens and access tokens (RFC 9068). Issuers sign other tokens, such as logout tokens, with the same
 * keys.
 */
const tokenTypes = new Set(["jwt", "at+jwt", "application/at+jwt"]);
/** The latest time that a Date can represent. */
const DATE_MS_MAX = 8.64e15;
const subjectPattern = new RegExp(`^[\\x20-\\x7e]{1,${SUBJECT_CHARS_MAX}}$`);

/** The claims of a valid issuer token. */
export type IssuerClaims = {
  issuer: string;
  subject: string;
  /** A hash that identifies the token's sessions. */
  tokenKey: Buffer;
  /** When the token expires, including the clock tolerance. */
  expiresAtMs: number;
  /** When the user logged in at the issuer. 0 if unknown. */
  authenticatedAtMs: number;
  email: string | null;
  /** Null if the token doesn't state whether the issuer has verified the email address. */
  isEmailVerified: boolean | null;
  name: string | null;
};

/** Verifies tokens that the issuer issued for this server. */
export interface IssuerTokenVerifier {
  /** Returns whether a token claims to be from this issuer. The claim isn't verified. */
  hasIssuerClaim(token: string): boolean;

  /**
   * Returns the claims, or null if the token is invalid or has expired.
   * @throws Problem `unavailable` if its key is unknown and can't be fetched.
   */
  verify(token: string): Promise<IssuerClaims | null>;
}

type TokensDependencies = { issuer: string; audience: string[]; findKey: JWTVerifyGetKey; times: KeyTimes };

export function createIssuerTokenVerifier({
  issuer,
  audience,
  findKey,
  times,
}: TokensDependencies): IssuerTokenVerifier {
  // Keyed by hash, because tokens are large. Tokens are verified again after a while, in case the issuer has revoked the key.
  const verifiedClaims = new BoundedCache<IssuerClaims>({ maxSize: IDENTITIES_CACHED_MAX, ttlMs: times.refreshMs });
  const options = { algorithms, issuer, audience, clockTolerance: CLOCK_TOLERANCE_S, requiredClaims: ["sub", "exp"] };

  async function verifySignature(token: string): Promise<IssuerClaims | null> {
    try {
      const result = await jwtVerify(token, findKey, options);
      return isForThisServer(result, audience) ? mapToClaims(token, result) : null;
    } catch (error) {
      if (!(error instanceof KeysUnavailableError)) return null;
      throw new Problem("unavailable", "The issuer's keys can't be fetched at the moment. Try again later.", {
        retryAfterMs: times.retryMs,
      });
    }
  }

  return {
    hasIssuerClaim(token) {
      if (token.length > ISSUER_TOKEN_CHARS_MAX || !token.startsWith("ey")) return false;
      try {
        return decodeJwt(token).iss === issuer;
      } catch {
        return false;
      }
    },

    async verify(token) {
      if (token.length > ISSUER_TOKEN_CHARS_MAX) return null;
      const hash = createHash("sha256").update(token).digest("base64");
      const cached = verifiedClaims.get(hash);
      if (cached) return cached.expiresAtMs > Date.now() ? cached : null;
      const claims = await verifySignature(token);
      if (claims) verifiedClaims.set(hash, claims);
      return claims;
    },
  };
}

/**
 * Returns whether the client that a token was issued to (`azp`, if present) is one of Parley's. Without this check, other applications that
 * use the same issuer could log in as their users.
 */
const isForThisServer = ({ payload: { azp } }: JWTVerifyResult, audience: readonly string[]): boolean =>
  azp === undefined || (typeof azp === "string" && audience.includes(azp));

function mapToClaims(token: string, { payload, protectedHeader }: JWTVerifyResult): IssuerClaims | null {
  const { iss, sub, exp, iat, auth_time, email, email_verified, name, preferred_username, events } = payload;
  if (!tokenTypes.has((protectedHeader.typ ?? "jwt").toLowerCase()) || events !== undefined) return null;
  if (typeof iss !== "string" || typeof sub !== "string" || !subjectPattern.test(sub) || typeof exp !== "number")
    return null;
  if (exp > Date.now() / 1000 + ISSUER_TOKEN_TTL_MAX_S) return null;
  return {
    issuer: iss,
    subject: sub,
    tokenKey: createTokenKey(token),
    expiresAtMs: (exp + CLOCK_TOLERANCE_S) * 1000,
    authenticatedAtMs: parseLoginTime(auth_time ?? iat),
    email: typeof email === "string" ? email : null,
    // Some issuers send `email_verified` as a string.
    isEmailVerified: email_verified === undefined ? null : email_verified === true || email_verified === "true",
    name:
      [name, preferred_username].find(
        (value): value is string => typeof value === "string" && hasVisibleCharacter(value),
      ) ?? null,
  };
}

/** Parses the login time. Returns 0 if the issuer doesn't provide it. */
function parseLoginTime(seconds: unknown): number {
  const ms = typeof seconds === "number" ? seconds * 1000 : 0;
  return ms >= 0 && ms <= DATE_MS_MAX ? ms : 0;
}

/**
 * Hashes the signed part of a token, without the signature. With ECDSA, the same content has many valid signatures, and all of them must
 * count as the same token.
 */
function createTokenKey(token: string): Buffer {
  return createHash("sha256")
    .update(token.slice(0, token.lastIndexOf(".")))
    .digest();
}
