import { randomBytes } from "node:crypto";
import { createSeal, deriveKey } from "../../lib/seal.ts";

const SECRET_BYTES = 32;
/** Standard Webhooks 1.0.0: what a secret begins with; the rest is base64. */
const SECRET_PREFIX = "whsec_";

/** The secrets with which deliveries are signed. The database only has them sealed, each for its webhook. */
export interface WebhookSecrets {
  /** A new secret, as its owner sees it: `whsec_` and the base64 of 32 random bytes. */
  create(): string;
  /** As it is stored. It only opens again for the same webhook. */
  seal(webhookId: string, secret: string): string;
  /** Null if it was sealed with another `JWT_SECRET` or for another webhook. */
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
