import { randomBytes } from "node:crypto";
import { createSeal, deriveKey } from "../../lib/seal.ts";

const SECRET_BYTES = 32;
/** The secret's prefix (Standard Webhooks 1.0.0); the rest is base64. */
const SECRET_PREFIX = "whsec_";

/** Secrets for signing deliveries. The database stores them encrypted, each bound to its webhook. */
export interface WebhookSecrets {
  /** Creates a secret: `whsec_` and 32 random bytes as base64. */
  create(): string;
  /** Encrypts a secret for storage. It can be decrypted only for the same webhook. */
  seal(webhookId: string, secret: string): string;
  /** Decrypts a secret; null if it was encrypted with a different `JWT_SECRET` or for a different webhook. */
  open(webhookId: string, sealed: string): string | null;
}

export function createWebhookSecrets(jwtSecret: string): WebhookSecrets {
  const seal = createSeal(deriveKey(jwtSecret, "webhook secrets"));

  return {
    create: () => SECRET_PREFIX + randomBytes(SECRET_BYTES).toString("base64"),

    seal: (webhookId, secret) => seal.seal(Buffer.from(secret), Buffer.from(webhookId)).toString("base64"),

    open: (webhookId, sealed) => seal.open(Buffer.from(sealed, "base64"), Buffer.from(webhookId))?.toString() ?? null,
  };
}
