import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from "node:crypto";

const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const CIPHER = "aes-256-gcm";

/** Derives a key for one purpose from the server's secret (HKDF with SHA-256, RFC 5869). */
export function deriveKey(secret: string, purpose: string): Buffer {
  return Buffer.from(hkdfSync("sha256", secret, "", `parley ${purpose}`, KEY_BYTES));
}

export interface Seal {
  seal(plain: Uint8Array, context: Uint8Array): Buffer;
  /** Decrypts sealed bytes. Returns null if they were changed, or sealed with a different key or context. */
  open(sealed: Uint8Array, context: Uint8Array): Buffer | null;
}

/**
 * Creates a seal, which encrypts bytes with AES-256-GCM for storage in the database. The result consists of the nonce, the
 * ciphertext and the tag. `context` identifies the owner of the bytes, so that they can't be decrypted if they are copied to a
 * different owner.
 */
export function createSeal(key: Uint8Array): Seal {
  return {
    seal(plain, context) {
      const nonce = randomBytes(NONCE_BYTES);
      const cipher = createCipheriv(CIPHER, key, nonce).setAAD(context);
      return Buffer.concat([nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
    },

    open(sealed, context) {
      if (sealed.length < NONCE_BYTES + TAG_BYTES) return null;
      const nonce = sealed.subarray(0, NONCE_BYTES);
      const decipher = createDecipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES })
        .setAAD(context)
        .setAuthTag(sealed.subarray(-TAG_BYTES));
      try {
        return Buffer.concat([decipher.update(sealed.subarray(NONCE_BYTES, -TAG_BYTES)), decipher.final()]);
      } catch {
        return null;
      }
    },
  };
}
