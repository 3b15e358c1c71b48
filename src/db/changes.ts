import { type Database, type Sql, withTransaction } from "./client.ts";

/** Transactions that change a conversation: each waits for those before it, without a connection (`withTransaction`). */
export const createChanges = (database: Database) => ({
  run: <T>(conversationId: string, work: (sql: Sql) => Promise<T>): Promise<T> =>
    withTransaction(database, work, conversationId),
});

export type Changes = ReturnType<typeof createChanges>;
