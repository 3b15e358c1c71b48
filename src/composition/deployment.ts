import { createHash } from "node:crypto";

const DEPLOYMENT_CHARS = 16;

/** Names a deployment: the instances with the same secret, which accept each other's tokens. The name doesn't reveal the secret. */
export const nameDeployment = (jwtSecret: string): string =>
  createHash("sha256").update(`bus of ${jwtSecret}`).digest("hex").slice(0, DEPLOYMENT_CHARS);
