import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { openDatabase } from "../../src/db/client.ts";
import { createTestDatabase } from "./postgres.ts";

/** The time for Postgres to commit after its response. */
const COMMIT_MS = 50;

/** A test database whose responses can be lost, as if the connection broke after the commit. */
export async function createLossyDatabase() {
  const { database: direct, name, target } = await createTestDatabase();
  let loss: { sent: string; received: string; done(): void } | null = null;
  const sockets = new Set<Socket>();

  const server = createServer((client) => {
    const postgres = connect(join(target.socketDirectory, ".s.PGSQL.5432"));
    const statements = createStatementReader();
    /** The pending loss, and the statements executed on this connection since then. */
    let pendingLoss: typeof loss = null;
    let executed: string[] = [];
    let isLost = false;
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
      executed.push(...statements.read(data));
      postgres.write(data);
    });
    postgres.on("data", (data) => {
      if (isLost) return;
      const { sent, received } = loss ?? {};
      const isTarget = sent !== undefined && pendingLoss === loss && executed.some((text) => text.includes(sent));
      if (!loss || !isTarget || !data.includes(received ?? "")) {
        client.write(data);
        return;
      }
      isLost = true;
      loss.done();
      loss = null;
      setTimeout(close, COMMIT_MS);
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
    /** Bypasses the relay. */
    direct,

    /**
     * Loses the next response that contains `received`, with its connection, if a statement with the text `sent` was
     * executed there after this call.
     * @returns when it has happened.
     */
    lose(sent: string, received: string): Promise<void> {
      const { promise, resolve } = Promise.withResolvers<void>();
      loss = { sent, received, done: resolve };
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
 * Extracts the statements that a client executes (PostgreSQL's protocol 3.0); a prepared one is sent once, then
 * referenced by name.
 */
function createStatementReader() {
  const texts = new Map<string, string>();
  let unread = Buffer.alloc(0);
  let isStarted = false;

  /** @returns the next message, without its length; null while it is incomplete. */
  function take(): { type: string; body: Buffer } | null {
    const at = isStarted ? 1 : 0;
    if (unread.length < at + 4) return null;
    const end = at + unread.readInt32BE(at);
    if (unread.length < end) return null;
    const message = { type: isStarted ? String.fromCharCode(unread[0] ?? 0) : "", body: unread.subarray(at + 4, end) };
    unread = unread.subarray(end);
    return message;
  }

  return {
    /** @returns the texts of the statements executed in these bytes. */
    read(data: Buffer): string[] {
      unread = Buffer.concat([unread, data]);
      const executed: string[] = [];
      for (let message = take(); message; message = take()) {
        const { type, body } = message;
        if (type === "") isStarted = body.readInt32BE(0) !== SSL_REQUEST;
        const [first = "", second = ""] = type === "" ? [] : body.toString("latin1").split("\0", 2);
        if (type === "P") texts.set(first, second);
        if (type === "B") executed.push(texts.get(second) ?? "");
        if (type === "Q") executed.push(first);
      }
      return executed;
    },
  };
}
