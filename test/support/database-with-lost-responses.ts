import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { openDatabase } from "../../src/db/client.ts";
import { createTestDatabase } from "./postgres.ts";

/** Delay before the connection is closed, so that Postgres has time to commit. */
const COMMIT_WAIT_MS = 50;

/** Creates a test database whose responses can be dropped, as if the connection broke after the commit. */
export async function createDatabaseWithLostResponses() {
  const { database: directDatabase, name, target } = await createTestDatabase();
  let requestedLoss: { sent: string; received: string; resolve(): void } | null = null;
  const sockets = new Set<Socket>();

  const server = createServer((client) => {
    const postgres = connect(join(target.socketDirectory, ".s.PGSQL.5432"));
    const statementParser = createStatementParser();
    let observedLoss: typeof requestedLoss = null;
    /** The statements executed on this connection since `loseNextResponse` was called. */
    let executedStatements: string[] = [];
    let isResponseLost = false;
    const close = () => {
      client.destroy();
      postgres.destroy();
    };
    for (const socket of [client, postgres]) {
      sockets.add(socket);
      socket.on("error", close);
      socket.on("close", close);
    }
    client.on("data", (data) => {
      if (observedLoss !== requestedLoss) executedStatements = [];
      observedLoss = requestedLoss;
      executedStatements.push(...statementParser.parse(data));
      postgres.write(data);
    });
    postgres.on("data", (data) => {
      if (isResponseLost) return;
      const { sent, received } = requestedLoss ?? {};
      const isTarget =
        sent !== undefined && observedLoss === requestedLoss && executedStatements.some((sql) => sql.includes(sent));
      if (!requestedLoss || !isTarget || !data.includes(received ?? "")) {
        client.write(data);
        return;
      }
      isResponseLost = true;
      requestedLoss.resolve();
      requestedLoss = null;
      setTimeout(close, COMMIT_WAIT_MS);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" ? address?.port : undefined;
  const url = `postgres://${target.user}@127.0.0.1:${port}/${name}`;
  const database = openDatabase({ target: { url }, poolSize: 10 });

  return {
    database,
    name,
    target,
    /** A connection pool whose responses are never dropped. */
    directDatabase,

    /**
     * Drops the next response that contains `received` on a connection on which a statement containing `sent` was
     * executed after this call, then closes the connection. Resolves when the response is dropped.
     */
    loseNextResponse(sent: string, received: string): Promise<void> {
      const { promise, resolve } = Promise.withResolvers<void>();
      requestedLoss = { sent, received, resolve };
      return promise;
    },

    async end(): Promise<void> {
      await Promise.all([database.end({ timeout: 1 }), directDatabase.end({ timeout: 1 })]);
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

const SSL_REQUEST = 80_877_103;

/**
 * Creates a parser for the statements that a client executes, in version 3.0 of PostgreSQL's protocol. A prepared
 * statement is sent once, and then referenced by its name.
 */
function createStatementParser() {
  const statementsByName = new Map<string, string>();
  let unparsedBytes = Buffer.alloc(0);
  let isStarted = false;

  /** Returns the next message without its length, or null if it is incomplete. */
  function takeMessage(): { type: string; body: Buffer } | null {
    // The startup messages have no type byte before their length.
    const typeBytes = isStarted ? 1 : 0;
    if (unparsedBytes.length < typeBytes + 4) return null;
    const end = typeBytes + unparsedBytes.readInt32BE(typeBytes);
    if (unparsedBytes.length < end) return null;
    const message = {
      type: isStarted ? String.fromCharCode(unparsedBytes[0] ?? 0) : "",
      body: unparsedBytes.subarray(typeBytes + 4, end),
    };
    unparsedBytes = unparsedBytes.subarray(end);
    return message;
  }

  return {
    /** Returns the statements that these bytes execute. */
    parse(data: Buffer): string[] {
      unparsedBytes = Buffer.concat([unparsedBytes, data]);
      const executedStatements: string[] = [];
      for (let message = takeMessage(); message; message = takeMessage()) {
        const { type, body } = message;
        if (type === "") isStarted = body.readInt32BE(0) !== SSL_REQUEST;
        const [firstString = "", secondString = ""] = type === "" ? [] : body.toString("latin1").split("\0", 2);
        // Parse has a name and a statement, Bind has a portal and a name, and Query has only a statement.
        if (type === "P") statementsByName.set(firstString, secondString);
        if (type === "B") executedStatements.push(statementsByName.get(secondString) ?? "");
        if (type === "Q") executedStatements.push(firstString);
      }
      return executedStatements;
    },
  };
}
