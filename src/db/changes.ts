import { type Database, type Sql, withTransaction } from "./client.ts";

/** Runs transactions that change a conversation. Transactions for the same conversation wait in a queue, without using a connection. */
export interface ChangeRunner {
  /** Runs `work` in a transaction. @throws the errors of `withTransaction`. */
  run<T>(conversationId: string, work: (sql: Sql) => Promise<T>): Promise<T>;
}

export const createChangeRunner = (database: Database): ChangeRunner => ({
  run: (conversationId, work) => withTransaction(database, work, conversationId),
});
