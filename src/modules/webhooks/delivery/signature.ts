import { createHmac } from "node:crypto";

const SECRET_PREFIX = "whsec_";

/**
 * Creates the header `webhook-signature` of Standard Webhooks 1.0.0: a signature with each secret, separated by spaces.
 * @param secrets in the format in which owners receive them: `whsec_` and base64.
 * @param timestampS seconds since 1970, as in `webhook-timestamp`.
 */
export function sign(secrets: readonly string[], id: string, timestampS: number, body: string): string {
  const signed = `${id}.${timestampS}.${body}`;
  return secrets
    .map((secret) => {
      const key = Buffer.from(secret.slice(SECRET_PREFIX.length), "base64");
      return `v1,${createHmac("sha256", key).update(signed).digest("base64")}`;
    })
    .join(" ");
}
