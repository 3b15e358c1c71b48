import { type Database, type Sql, withTransaction } from "./client.ts";

/** Transactions that change a conversation. They queue per conversation without holding a connection (`withTransaction`). */
export interface Changes {
  /** @throws what `withTransaction` throws. */
  run<T>(conversationId: string, work: (sql: Sql) => Promise<T>): Promise<T>;
}

export const createChanges = (database: Database): Changes => ({
  run: (conversationId, work) => withTransaction(database, work, conversationId),
});
