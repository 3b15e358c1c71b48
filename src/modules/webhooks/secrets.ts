import { randomBytes } from "node:crypto";
import { createSeal, deriveKey } from "../../lib/seal.ts";

const SECRET_BYTES = 32;
/** The prefix of secrets, from Standard Webhooks 1.0.0. The key follows in base64. */
const SECRET_PREFIX = "whsec_";

/** Creates and encrypts the secrets for signing deliveries. Each encrypted secret is bound to its webhook. */
export interface WebhookSecrets {
  /** Creates a secret: `whsec_` and 32 random bytes as base64. */
  create(): string;
  /** Encrypts a secret for storage. It can be decrypted only for the same webhook. */
  seal(webhookId: string, secret: string): string;
  /** Decrypts a secret. Returns null if it was encrypted with a different `JWT_SECRET` or for a different webhook. */
  open(webhookId: string, sealed: string): string | null;
}

export function createWebhookSecrets(jwtSecret: string): WebhookSecrets {
  const cipher = createSeal(deriveKey(jwtSecret, "webhook secrets"));

  return {
    create: () => SECRET_PREFIX + randomBytes(SECRET_BYTES).toString("base64"),

    seal: (webhookId, secret) => cipher.seal(Buffer.from(secret), Buffer.from(webhookId)).toString("base64"),

    open: (webhookId, sealed) => cipher.open(Buffer.from(sealed, "base64"), Buffer.from(webhookId))?.toString() ?? null,
  };
}
