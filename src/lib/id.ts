import { randomBytes } from "node:crypto";

/** The Nil UUID (RFC 9562). Lists that are read in the order of their ids start after it. */
export const NIL_UUID = "00000000-0000-0000-0000-000000000000";

/** Creates a UUIDv7 (RFC 9562). These ids sort by creation time, so that new entries are appended at the end of B-tree indexes. */
export function createId(): string {
  return Bun.randomUUIDv7();
}

/** Creates a random secret of `bytes` bytes (at least 16), as base64url without padding. */
export function createSecret(bytes = 32): string {
  return randomBytes(bytes).toString("base64url");
}
