import { SHUTDOWN_TIMEOUT_MS } from "./checks/backup.ts";

/** Returns the settings of the tested servers that differ from the defaults, for the report. */
export const listSettings = (ofProvider: Record<string, string>): Record<string, string> => ({
  HOST: "127.0.0.1",
  PORT: "a free one",
  DATA_DIR: "a temporary folder",
  ...ofProvider,
  "DATABASE_URL, JWT_SECRET": "the check `instances` only",
  SHUTDOWN_TIMEOUT_MS: `${SHUTDOWN_TIMEOUT_MS}, the check \`shutdown\` only`,
});
