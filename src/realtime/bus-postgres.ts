import { createSidePool, type Database, isPooledByTransaction } from "../db/client.ts";
import type { Bus } from "./bus.ts";
import { sharedChannels } from "./bus.ts";
import { createInstancesBus, type InstancesBusDependencies } from "./instances/bus.ts";
import type { Envelope, Transport, TransportListener } from "./instances/transport.ts";
import { createNotificationListener } from "./postgres/listener.ts";
import { createPartJoiner, joinEnvelopes, packEnvelopes, splitEnvelopes } from "./postgres/payloads.ts";
import { replaceStored } from "./postgres/stored-ids.ts";
import { createBusTable } from "./postgres/table.ts";

/** Batching delay for messages: notifying takes a lock shared by all of the server's databases. */
const NOTIFY_PAUSE_MS = 5;
const TABLE_PAUSE_MS = 100;
const BATCH_CHARS = 256 * 1024;
const SEND_TIMEOUT_MS = 2_000;
/** Own heartbeats sent but not received, until the listening connection counts as broken. */
const MISSED_ROUNDS_MAX = 2;
/** While messages go through the table, LISTEN is retried at this interval. */
const RETRY_MS = 60_000;
/** Keep writing to the table for an instance until this long after its last heartbeat. */
const TABLE_WRITE_MS = 5_000;
/** Sent by an instance that reads the table. */
const READS_TABLE = "table";

type Dependencies = Omit<InstancesBusDependencies, "server" | "sql"> & {
  database: Database;
  /** The same for all instances of this Parley, and unique to it. */
  deployment: string;
};

/**
 * The bus over Postgres. NOTIFY carries the numbers of stored events; short messages and everything else are sent in full.
 * If a pooler breaks LISTEN, which shows by missing heartbeats, messages go through a table.
 */
export function createPostgresBus({ database, deployment, ...deps }: Dependencies): Bus {
  return createInstancesBus({ ...deps, sql: database, server: "Postgres" }, (listener) =>
    openTransport({ ...deps, database, channel: `parley_${deployment}` }, listener),
  );
}

type TransportDependencies = Pick<Dependencies, "database" | "instanceId" | "log"> & { channel: string };

function openTransport(
  { database, instanceId, log, channel }: TransportDependencies,
  bus: TransportListener,
): Transport {
  const wanted = new Set<string>();
  const shared = new Set<string>(sharedChannels);
  const joiner = createPartJoiner();
  const table = createBusTable(database, { onPayload: deliverPayload, onReading: notifyListening });
  const openSender = () =>
    createSidePool(database, 1, { idleTimeoutS: 0, closeTimeoutS: 0, statementTimeoutMs: SEND_TIMEOUT_MS });
  let sender = openSender();
  let hasSent = false;
  let missedRounds = 0;
  let tableUntilMs = 0;
  let retriedAtMs = 0;
  const listener = createNotificationListener(database, channel, {
    onPayload(payload) {
      if (table.isRunning()) useListener();
      const joined = joiner.add(payload);
      if (joined !== null) deliverPayload(joined);
    },
    onListening() {
      joiner.clear();
      notifyListening();
    },
  });

  function notifyListening(): void {
    for (const name of wanted) bus.onListening(name);
  }

  function deliverPayload(payload: string): void {
    for (const envelope of splitEnvelopes(payload)) bus.onEnvelope(envelope.channel, envelope.text);
  }

  function useTable(): void {
    log.warn(
      "LISTEN doesn't work on this database connection, as behind a pooler in transaction mode; instances exchange messages by " +
        "polling, up to a second late. Set REDIS_URL, or connect DATABASE_URL to Postgres without the pooler.",
    );
    retriedAtMs = performance.now();
    table.start();
  }

  function useListener(): void {
    log.info("LISTEN works on this database connection again");
    table.stop();
    notifyListening();
  }

  async function send(envelopes: readonly Envelope[]): Promise<void> {
    try {
      await notify(envelopes);
    } catch (error) {
      // The pooler may have been detected only since: a new connection takes it into account.
      renewSender();
      throw error;
    }
  }

  function renewSender(): void {
    void sender.close();
    sender = openSender();
  }

  async function notify(envelopes: readonly Envelope[]): Promise<void> {
    const sql = sender.open();
    // Commits don't wait for the disk: notified events are already stored, or never will be.
    await sql`
      select pg_notify(${channel}, p), set_config('synchronous_commit', 'off', true)
      from unnest(${packEnvelopes(envelopes, instanceId)}::text[]) p`;
    if (table.isRunning() || performance.now() < tableUntilMs)
      await sql`insert into bus_messages (payload) values (${joinEnvelopes(envelopes)})`;
    hasSent = true;
  }

  return {
    sendsAtOnce: 1,
    batchChars: BATCH_CHARS,
    get pauseMs() {
      return table.isRunning() ? TABLE_PAUSE_MS : NOTIFY_PAUSE_MS;
    },
    isPrompt: () => listener.isListening() && !table.isRunning(),
    prepare: (name, messages) => (shared.has(name) ? messages : replaceStored(name, messages)),
    send,
    findRequest: () => (table.isRunning() ? READS_TABLE : undefined),
    onRequest(request) {
      if (request === READS_TABLE) tableUntilMs = performance.now() + TABLE_WRITE_MS;
    },
    listen(name) {
      wanted.add(name);
      // Everything has been received; from here on the table is the only source.
      if (listener.isListening() || table.isRunning()) queueMicrotask(() => wanted.has(name) && bus.onListening(name));
    },
    unlisten: (name) => void wanted.delete(name),
    reconnect() {
      missedRounds = listener.isListening() && hasSent ? missedRounds + 1 : 0;
      hasSent = false;
      // There, a LISTEN would only stay on a connection that others use.
      const isPooled = isPooledByTransaction(database);
      if (!table.isRunning() && (isPooled || missedRounds >= MISSED_ROUNDS_MAX)) useTable();
      if (table.isRunning() && (isPooled || performance.now() - retriedAtMs < RETRY_MS)) return;
      retriedAtMs = performance.now();
      listener.reconnect();
      renewSender();
    },
    async close() {
      table.stop();
      await Promise.all([listener.close(), sender.close()]);
    },
  };
}
