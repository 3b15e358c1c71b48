import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { openDatabase } from "../../src/db/client.ts";
import { createTestDatabase } from "./postgres.ts";

/** So that Postgres has committed what it responds to. */
const COMMIT_MS = 50;

/** A test database whose responses can be lost, as if the connection broke behind the commit. */
export async function createLossyDatabase() {
  const { database: direct, name, target } = await createTestDatabase();
  let loss: { sent: string; received: string; done(): void } | null = null;
  const sockets = new Set<Socket>();

  const server = createServer((client) => {
    const postgres = connect(join(target.socketDirectory, ".s.PGSQL.5432"));
    // All of it, since a prepared statement is sent once.
    let sent = "";
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
      sent += data.toString("latin1");
      postgres.write(data);
    });
    postgres.on("data", (data) => {
      if (isLost) return;
      if (!loss || !sent.includes(loss.sent) || !data.includes(loss.received)) {
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
    /** Not through the relay. */
    direct,

    /**
     * The next response that contains `received` is lost, with its connection, if that has sent a statement with this text.
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
