import { type Database, type Sql, withTransaction } from "./client.ts";

/** Runs transactions that change a conversation. Those of one conversation are queued without holding a connection. */
export interface Changes {
  /** Runs `work` in a transaction. @throws what `withTransaction` throws. */
  run<T>(conversationId: string, work: (sql: Sql) => Promise<T>): Promise<T>;
}

export const createChanges = (database: Database): Changes => ({
  run: (conversationId, work) => withTransaction(database, work, conversationId),
});
