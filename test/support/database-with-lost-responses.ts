import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { openDatabase } from "../../src/db/client.ts";
import { createTestDatabase } from "./postgres.ts";

/** Gives Postgres time to commit before the connection is closed. */
const COMMIT_WAIT_MS = 50;

/** Creates a test database whose responses can be dropped, as if the connection broke after the commit. */
export async function createDatabaseWithLostResponses() {
  const { database: direct, name, target } = await createTestDatabase();
  let loss: { sent: string; received: string; resolve(): void } | null = null;
  const sockets = new Set<Socket>();

  const server = createServer((client) => {
    const postgres = connect(join(target.socketDirectory, ".s.PGSQL.5432"));
    const statements = createStatementParser();
    let pendingLoss: typeof loss = null;
    /** The statements executed on this connection since `pendingLoss` changed. */
    let executed: string[] = [];
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
      if (pendingLoss !== loss) executed = [];
      pendingLoss = loss;
      executed.push(...statements.parse(data));
      postgres.write(data);
    });
    postgres.on("data", (data) => {
      if (isResponseLost) return;
      const { sent, received } = loss ?? {};
      const isTarget = sent !== undefined && pendingLoss === loss && executed.some((text) => text.includes(sent));
      if (!loss || !isTarget || !data.includes(received ?? "")) {
        client.write(data);
        return;
      }
      isResponseLost = true;
      loss.resolve();
      loss = null;
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
    direct,

    /**
     * Drops the next response that contains `received` on a connection on which a statement containing `sent` was
     * executed after this call, then closes the connection. Resolves when the response is dropped.
     */
    loseNextResponse(sent: string, received: string): Promise<void> {
      const { promise, resolve } = Promise.withResolvers<void>();
      loss = { sent, received, resolve };
      return promise;
    },

    async end(): Promise<void> {
      await Promise.all([database.end({ timeout: 1 }), direct.end({ timeout: 1 })]);
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
  let unread = Buffer.alloc(0);
  let isStarted = false;

  /** Returns the next message without its length, or null if it is incomplete. */
  function takeMessage(): { type: string; body: Buffer } | null {
    const at = isStarted ? 1 : 0;
    if (unread.length < at + 4) return null;
    const end = at + unread.readInt32BE(at);
    if (unread.length < end) return null;
    const message = { type: isStarted ? String.fromCharCode(unread[0] ?? 0) : "", body: unread.subarray(at + 4, end) };
    unread = unread.subarray(end);
    return message;
  }

  return {
    /** Returns the statements that these bytes execute. */
    parse(data: Buffer): string[] {
      unread = Buffer.concat([unread, data]);
      const executed: string[] = [];
      for (let message = takeMessage(); message; message = takeMessage()) {
        const { type, body } = message;
        if (type === "") isStarted = body.readInt32BE(0) !== SSL_REQUEST;
        const [first = "", second = ""] = type === "" ? [] : body.toString("latin1").split("\0", 2);
        if (type === "P") statementsByName.set(first, second);
        if (type === "B") executed.push(statementsByName.get(second) ?? "");
        if (type === "Q") executed.push(first);
      }
      return executed;
    },
  };
}
