import { randomBytes } from "node:crypto";

/** A new UUIDv7 (RFC 9562): ids sort by creation time, which keeps B-tree inserts at the right edge. */
export function createId(): string {
  return Bun.randomUUIDv7();
}

/** `bytes` random bytes (at least 16 for a secret) as base64url without padding. */
export function createSecret(bytes = 32): string {
  return randomBytes(bytes).toString("base64url");
}
