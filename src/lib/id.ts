import { randomBytes } from "node:crypto";

/** Creates a UUIDv7 (RFC 9562). These ids sort by creation time, so that new entries are appended at the end of B-tree indexes. */
export function createId(): string {
  return Bun.randomUUIDv7();
}

/** Creates a random secret of `bytes` bytes (at least 16), as base64url without padding. */
export function createSecret(bytes = 32): string {
  return randomBytes(bytes).toString("base64url");
}
