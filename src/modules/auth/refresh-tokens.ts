import { createHmac, timingSafeEqual } from "node:crypto";

const PREFIX = "prt_";
const SESSION_ID_BYTES = 16;
const GENERATION_BYTES = 4;
const MAC_BYTES = 32;
const PAYLOAD_BYTES = SESSION_ID_BYTES + GENERATION_BYTES;
const tokenPattern = /^prt_[\w-]{70}$/;

/** The contents of a refresh token. Only `matches` verifies its `mac`. */
type RefreshClaim = { sessionId: string; generation: number; mac: Buffer };
type RefreshFamily = { sessionId: string; generation: number; refreshKey: Uint8Array };

/**
 * Creates and checks refresh tokens, which aren't stored. A token consists of `prt_` and the base64url encoding of the session id, the
 * generation and a MAC of both. The MAC depends on the server's secret and on the session's random key. Each generation has exactly one
 * token (docs/decisions/0003).
 */
export interface RefreshTokenSigner {
  create(family: RefreshFamily): string;

  /** Parses a token without verifying it. @returns null if it is malformed. */
  parse(token: string): RefreshClaim | null;

  /** Returns whether this server created the token for the session with this key. */
  matches(claim: RefreshClaim, refreshKey: Uint8Array): boolean;
}

export function createRefreshTokenSigner(secret: string): RefreshTokenSigner {
  const serverKey = createHmac("sha256", secret).update("refresh").digest();

  function sign(payload: Buffer, refreshKey: Uint8Array): Buffer {
    return createHmac("sha256", serverKey).update(refreshKey).update(payload).digest();
  }

  return {
    create({ sessionId, generation, refreshKey }) {
      const payload = encodePayload(sessionId, generation);
      return PREFIX + Buffer.concat([payload, sign(payload, refreshKey)]).toString("base64url");
    },

    parse(token) {
      if (!tokenPattern.test(token)) return null;
      const encoded = token.slice(PREFIX.length);
      const bytes = Buffer.from(encoded, "base64url");
      // The last character has unused bits, so the same bytes have several encodings. Only one of them is accepted.
      if (bytes.length !== PAYLOAD_BYTES + MAC_BYTES || bytes.toString("base64url") !== encoded) return null;
      const hex = bytes.toString("hex", 0, SESSION_ID_BYTES);
      const sessionId = hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
      return { sessionId, generation: bytes.readUInt32BE(SESSION_ID_BYTES), mac: bytes.subarray(PAYLOAD_BYTES) };
    },

    matches(claim, refreshKey) {
      return timingSafeEqual(sign(encodePayload(claim.sessionId, claim.generation), refreshKey), claim.mac);
    },
  };
}

function encodePayload(sessionId: string, generation: number): Buffer {
  const payload = Buffer.alloc(PAYLOAD_BYTES);
  payload.write(sessionId.replaceAll("-", ""), "hex");
  payload.writeUInt32BE(generation, SESSION_ID_BYTES);
  return payload;
}
