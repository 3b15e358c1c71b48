import { deriveKey } from "../../lib/seal.ts";

/**
 * Signs tokens and encrypts secrets (webhooks, hooks, stored responses). Without it, restored sessions end and restored
 * webhooks can't be signed. `isConfigured`: it comes from JWT_SECRET, so backups leave it out.
 */
export type ServerSecret = { value: string; isConfigured: boolean };

const FINGERPRINT_BYTES = 8;

/** Identifies a secret without revealing anything else about it. */
export const fingerprintSecret = (secret: string): string =>
  deriveKey(secret, "fingerprint in backups").subarray(0, FINGERPRINT_BYTES).toString("hex");
