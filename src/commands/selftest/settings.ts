import { SHUTDOWN_TIMEOUT_MS } from "./checks/backup.ts";

/** Returns the settings of the tested servers that differ from the defaults, for the report. */
export const listSettings = (providerSettings: Record<string, string>): Record<string, string> => ({
  HOST: "127.0.0.1",
  PORT: "a free port",
  DATA_DIR: "a temporary folder",
  ...providerSettings,
  "DATABASE_URL, JWT_SECRET": "only in the `instances` check",
  SHUTDOWN_TIMEOUT_MS: `${SHUTDOWN_TIMEOUT_MS}, only in the \`shutdown\` check`,
});
