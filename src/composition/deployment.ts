import { createHash } from "node:crypto";

const DEPLOYMENT_CHARS = 16;

/** Returns the name of a deployment: all instances with the same secret. It doesn't reveal the secret. */
export const createDeploymentName = (jwtSecret: string): string =>
  createHash("sha256").update(`bus of ${jwtSecret}`).digest("hex").slice(0, DEPLOYMENT_CHARS);
