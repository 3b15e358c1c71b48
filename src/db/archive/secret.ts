import { deriveKey } from "../../lib/seal.ts";

/**
 * The secret that signs tokens and encrypts stored secrets (webhooks, hooks, stored responses). Without it, restored sessions are
 * invalid and restored webhooks can't be signed. If `isConfigured` is true, the secret comes from JWT_SECRET, and backups don't contain it.
 */
export type ServerSecret = { value: string; isConfigured: boolean };

const FINGERPRINT_BYTES = 8;

/** Returns a fingerprint that identifies the secret without revealing it. */
export const fingerprintSecret = (secret: string): string =>
  deriveKey(secret, "fingerprint in backups").subarray(0, FINGERPRINT_BYTES).toString("hex");
