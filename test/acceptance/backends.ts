import { startDatabaseServer } from "./database-server.ts";

export type Backend = { env: Record<string, string>; close(): Promise<void> };

/** The databases that a test suite runs on. */
export const backends: { name: string; openBackend(): Promise<Backend> }[] = [
  { name: "embedded Postgres", openBackend: async () => ({ env: {}, close: async () => {} }) },
  {
    name: "Postgres server",
    async openBackend() {
      const server = await startDatabaseServer();
      return { env: { DATABASE_URL: await server.createDatabase() }, close: server.stop };
    },
  },
];
