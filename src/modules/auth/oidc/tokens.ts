import { createHash } from "node:crypto";
import { decodeJwt, type JWTVerifyGetKey, type JWTVerifyResult, jwtVerify } from "jose";
import { BoundedCache } from "../../../cache/bounded-cache.ts";
import { Problem } from "../../../lib/problem.ts";
import { IDENTITIES_CACHED_MAX } from "../limits.ts";
import { KeysUnavailable } from "./keys.ts";
import {
  CLOCK_TOLERANCE_S,
  ISSUER_TOKEN_CHARS_MAX,
  ISSUER_TOKEN_TTL_MAX_S,
  type KeyTimes,
  SUBJECT_CHARS_MAX,
} from "./limits.ts";

/** Signatures only, by public keys: with a shared secret, whoever can check a token could make one. */
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
/** ID tokens and access tokens (RFC 9068). Issuers sign other things with the same keys, such as logout tokens. */
const types = new Set(["jwt", "at+jwt", "application/at+jwt"]);
const subjectForm = new RegExp(`^[\\x20-\\x7e]{1,${SUBJECT_CHARS_MAX}}$`);

/** What a good token of the issuer says. */
export type IssuerClaims = {
  issuer: string;
  subject: string;
  /** Names the token among the sessions. */
  tokenKey: Buffer;
  /** Clock tolerance included. */
  expiresAtMs: number;
  email: string | null;
  /** The issuer says itself that the address is not proven. */
  isEmailUnproven: boolean;
  name: string | null;
};

/** Reads tokens that the issuer made for this Parley. */
export interface IssuerTokens {
  /** Whether a token says that it is of this issuer. Nothing is proven by that: it only chooses who looks at it. */
  isAddressed(token: string): boolean;

  /** @returns null unless it is valid now. @throws Problem `unavailable` when its key is not known and cannot be fetched. */
  verify(token: string): Promise<IssuerClaims | null>;
}

type TokensDependencies = { issuer: string; audience: string[]; findKey: JWTVerifyGetKey; times: KeyTimes };

export function createIssuerTokens({ issuer, audience, findKey, times }: TokensDependencies): IssuerTokens {
  // By hash: the tokens themselves are large. Looked at again after a while, in case the issuer has withdrawn the key.
  const verified = new BoundedCache<IssuerClaims>({ max: IDENTITIES_CACHED_MAX, keptMs: times.refreshMs });
  const options = { algorithms, issuer, audience, clockTolerance: CLOCK_TOLERANCE_S, requiredClaims: ["sub", "exp"] };

  async function check(token: string): Promise<IssuerClaims | null> {
    try {
      return readClaims(token, await jwtVerify(token, findKey, options));
    } catch (error) {
      if (!(error instanceof KeysUnavailable)) return null;
      throw new Problem("unavailable", "The keys of the issuer cannot be fetched at the moment.", {
        retryAfterMs: times.retryMs,
      });
    }
  }

  return {
    isAddressed(token) {
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

function readClaims(token: string, { payload, protectedHeader }: JWTVerifyResult): IssuerClaims | null {
  const { iss, sub, exp, email, email_verified, name, preferred_username, events } = payload;
  if (!types.has((protectedHeader.typ ?? "jwt").toLowerCase()) || events !== undefined) return null;
  if (typeof iss !== "string" || typeof sub !== "string" || !subjectForm.test(sub) || typeof exp !== "number")
    return null;
  if (exp > Date.now() / 1000 + ISSUER_TOKEN_TTL_MAX_S) return null;
  return {
    issuer: iss,
    subject: sub,
    tokenKey: createTokenKey(token),
    expiresAtMs: (exp + CLOCK_TOLERANCE_S) * 1000,
    email: typeof email === "string" ? email : null,
    // As text, some issuers write it.
    isEmailUnproven: email_verified !== undefined && email_verified !== true && email_verified !== "true",
    name: [name, preferred_username].find((value): value is string => typeof value === "string") ?? null,
  };
}

/** Over what is signed: of one signed statement there can be many signatures (ECDSA), and all are the same token. */
function createTokenKey(token: string): Buffer {
  return createHash("sha256")
    .update(token.slice(0, token.lastIndexOf(".")))
    .digest();
}
