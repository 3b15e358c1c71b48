import { createHmac } from "node:crypto";

const SECRET_PREFIX = "whsec_";

/**
 * Creates the `webhook-signature` header of Standard Webhooks 1.0.0: a signature for each secret, separated by spaces.
 * @param secrets each is `whsec_` followed by the key in base64.
 * @param timestampS seconds since 1970, as in `webhook-timestamp`.
 */
export function createSignatureHeader(
  secrets: readonly string[],
  id: string,
  timestampS: number,
  body: string,
): string {
  const signedContent = `${id}.${timestampS}.${body}`;
  return secrets
    .map((secret) => {
      const key = Buffer.from(secret.slice(SECRET_PREFIX.length), "base64");
      return `v1,${createHmac("sha256", key).update(signedContent).digest("base64")}`;
    })
    .join(" ");
}
