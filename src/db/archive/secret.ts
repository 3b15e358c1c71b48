import { deriveKey } from "../../lib/seal.ts";

/**
 * What signs tokens and seals secrets (webhooks, hooks, kept responses): without it, restored sessions end and restored
 * webhooks can't be signed. `isConfigured`: it is in JWT_SECRET, so it stays out of backups.
 */
export type ServerSecret = { value: string; isConfigured: boolean };

const FINGERPRINT_BYTES = 8;

/** By which a secret is recognised; it tells nothing else of it. */
export const fingerprintSecret = (secret: string): string =>
  deriveKey(secret, "fingerprint in backups").subarray(0, FINGERPRINT_BYTES).toString("hex");
