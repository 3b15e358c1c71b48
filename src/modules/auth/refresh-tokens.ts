import { createHmac, timingSafeEqual } from "node:crypto";

const PREFIX = "prt_";
const SESSION_ID_BYTES = 16;
const GENERATION_BYTES = 4;
const MAC_BYTES = 32;
const NAMED_BYTES = SESSION_ID_BYTES + GENERATION_BYTES;
const form = /^prt_[\w-]{70}$/;

/** The contents of a refresh token; only `matches` verifies its `mac`. */
type RefreshClaim = { sessionId: string; generation: number; mac: Buffer };
type Family = { sessionId: string; generation: number; refreshKey: Uint8Array };

/**
 * Refresh tokens without storage: `prt_` and base64url of session id, generation and a MAC over both. The MAC needs both
 * the server's secret and the session's random key, so neither suffices alone. A generation always gives the same token
 * (docs/decisions/0003).
 */
export interface RefreshTokens {
  create(family: Family): string;

  /** Parses a token without verifying it. @returns null if the text doesn't have the form. */
  read(token: string): RefreshClaim | null;

  /** Whether this server made the token for the session with this key. */
  matches(claim: RefreshClaim, refreshKey: Uint8Array): boolean;
}

export function createRefreshTokens(secret: string): RefreshTokens {
  const serverKey = createHmac("sha256", secret).update("refresh").digest();

  function sign(named: Buffer, refreshKey: Uint8Array): Buffer {
    return createHmac("sha256", serverKey).update(refreshKey).update(named).digest();
  }

  return {
    create({ sessionId, generation, refreshKey }) {
      const named = nameGeneration(sessionId, generation);
      return PREFIX + Buffer.concat([named, sign(named, refreshKey)]).toString("base64url");
    },

    read(token) {
      if (!form.test(token)) return null;
      const text = token.slice(PREFIX.length);
      const bytes = Buffer.from(text, "base64url");
      // The last character has unused bits: accept only one spelling of each token.
      if (bytes.length !== NAMED_BYTES + MAC_BYTES || bytes.toString("base64url") !== text) return null;
      const hex = bytes.toString("hex", 0, SESSION_ID_BYTES);
      const sessionId = hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
      return { sessionId, generation: bytes.readUInt32BE(SESSION_ID_BYTES), mac: bytes.subarray(NAMED_BYTES) };
    },

    matches(claim, refreshKey) {
      return timingSafeEqual(sign(nameGeneration(claim.sessionId, claim.generation), refreshKey), claim.mac);
    },
  };
}

function nameGeneration(sessionId: string, generation: number): Buffer {
  const named = Buffer.alloc(NAMED_BYTES);
  named.write(sessionId.replaceAll("-", ""), "hex");
  named.writeUInt32BE(generation, SESSION_ID_BYTES);
  return named;
}
