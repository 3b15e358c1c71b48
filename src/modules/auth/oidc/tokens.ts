import { createHash } from "node:crypto";
import { decodeJwt, type JWTVerifyGetKey, type JWTVerifyResult, jwtVerify } from "jose";
import { BoundedCache } from "../../../cache/bounded-cache.ts";
import { Problem } from "../../../lib/problem.ts";
import { isVisible } from "../../../lib/text.ts";
import { IDENTITIES_CACHED_MAX } from "../limits.ts";
import { KeysUnavailable } from "./keys.ts";
import {
  CLOCK_TOLERANCE_S,
  ISSUER_TOKEN_CHARS_MAX,
  ISSUER_TOKEN_TTL_MAX_S,
  type KeyTimes,
  SUBJECT_CHARS_MAX,
} from "./limits.ts";

/** Public-key signatures only: with a shared secret, anyone who can verify a token could forge one. */
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
/** ID tokens and access tokens (RFC 9068). Issuers sign other tokens with the same keys, such as logout tokens. */
const types = new Set(["jwt", "at+jwt", "application/at+jwt"]);
/** The latest time a Date can hold. */
const DATE_MS_MAX = 8.64e15;
const subjectPattern = new RegExp(`^[\\x20-\\x7e]{1,${SUBJECT_CHARS_MAX}}$`);

/** The claims of a valid issuer token. */
export type IssuerClaims = {
  issuer: string;
  subject: string;
  /** Identifies the token among the sessions. */
  tokenKey: Buffer;
  /** Includes the clock tolerance. */
  expiresAtMs: number;
  /** When the person logged in at the issuer, if the token says so. */
  authenticatedAtMs: number;
  email: string | null;
  /** Null: the issuer doesn't say whether it verified the e-mail address. */
  isEmailVerified: boolean | null;
  name: string | null;
};

/** Verifies tokens that the issuer issued for this server. */
export interface IssuerTokens {
  /** Whether a token claims to be from this issuer. Proves nothing: it only selects the verifier. */
  hasIssuerClaim(token: string): boolean;

  /** Returns the claims; null unless the token is valid now. @throws Problem `unavailable` if its key is unknown and can't be fetched. */
  verify(token: string): Promise<IssuerClaims | null>;
}

type TokensDependencies = { issuer: string; audience: string[]; findKey: JWTVerifyGetKey; times: KeyTimes };

export function createIssuerTokens({ issuer, audience, findKey, times }: TokensDependencies): IssuerTokens {
  // Keyed by hash, as tokens are large. Verified again after a while, in case the issuer has withdrawn the key.
  const verified = new BoundedCache<IssuerClaims>({ max: IDENTITIES_CACHED_MAX, ttlMs: times.refreshMs });
  const options = { algorithms, issuer, audience, clockTolerance: CLOCK_TOLERANCE_S, requiredClaims: ["sub", "exp"] };

  async function check(token: string): Promise<IssuerClaims | null> {
    try {
      const result = await jwtVerify(token, findKey, options);
      return isForOurClient(result, audience) ? readClaims(token, result) : null;
    } catch (error) {
      if (!(error instanceof KeysUnavailable)) return null;
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
      const known = verified.get(hash);
      if (known) return known.expiresAtMs > Date.now() ? known : null;
      const claims = await check(token);
      if (claims) verified.set(hash, claims);
      return claims;
    },
  };
}

/**
 * Whether the client that a token was issued to (`azp`) is configured here, if the token names it. Without this check,
 * another application of the issuer could log its users in.
 */
const isForOurClient = ({ payload: { azp } }: JWTVerifyResult, audience: readonly string[]): boolean =>
  azp === undefined || (typeof azp === "string" && audience.includes(azp));

function readClaims(token: string, { payload, protectedHeader }: JWTVerifyResult): IssuerClaims | null {
  const { iss, sub, exp, iat, auth_time, email, email_verified, name, preferred_username, events } = payload;
  if (!types.has((protectedHeader.typ ?? "jwt").toLowerCase()) || events !== undefined) return null;
  if (typeof iss !== "string" || typeof sub !== "string" || !subjectPattern.test(sub) || typeof exp !== "number")
    return null;
  if (exp > Date.now() / 1000 + ISSUER_TOKEN_TTL_MAX_S) return null;
  return {
    issuer: iss,
    subject: sub,
    tokenKey: createTokenKey(token),
    expiresAtMs: (exp + CLOCK_TOLERANCE_S) * 1000,
    authenticatedAtMs: readLoginTime(auth_time ?? iat),
    email: typeof email === "string" ? email : null,
    // Some issuers send a string.
    isEmailVerified: email_verified === undefined ? null : email_verified === true || email_verified === "true",
    name:
      [name, preferred_username].find((value): value is string => typeof value === "string" && isVisible(value)) ??
      null,
  };
}

/** Returns 0, which counts as long ago, if the issuer doesn't say. */
function readLoginTime(seconds: unknown): number {
  const ms = typeof seconds === "number" ? seconds * 1000 : 0;
  return ms >= 0 && ms <= DATE_MS_MAX ? ms : 0;
}

/** Hashes the signed part, not the signature: ECDSA allows many signatures of the same content, and all of those are one token. */
function createTokenKey(token: string): Buffer {
  return createHash("sha256")
    .update(token.slice(0, token.lastIndexOf(".")))
    .digest();
}
