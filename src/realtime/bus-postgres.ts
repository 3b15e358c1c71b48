import { createSidePool, type Database, isPooledByTransaction } from "../db/client.ts";
import type { Bus } from "./bus.ts";
import { sharedChannels } from "./bus.ts";
import { createInstancesBus, type InstancesBusDependencies } from "./instances/bus.ts";
import type { Envelope, Transport, TransportListener } from "./instances/transport.ts";
import { createNotificationListener } from "./postgres/listener.ts";
import { createPartAssembler, joinEnvelopes, packEnvelopes, splitEnvelopes } from "./postgres/payloads.ts";
import { replaceStoredEvents } from "./postgres/stored-event-markers.ts";
import { createBusTable } from "./postgres/table.ts";

/** The interval between batches. NOTIFY takes a lock that all databases on the server share, so it must not run too often. */
const NOTIFY_INTERVAL_MS = 5;
const TABLE_INTERVAL_MS = 100;
const BATCH_CHARS_MAX = 256 * 1024;
const SEND_TIMEOUT_MS = 2_000;
/** If an instance still doesn't receive its own heartbeats after this many reconnects, it reads messages from the table instead. */
const RECONNECTS_MAX = 2;
/** The interval between LISTEN retries while messages are exchanged through the table. */
const LISTEN_RETRY_MS = 60_000;
/** After a heartbeat from an instance that reads the table, messages are written to the table for this long. */
const TABLE_WRITE_DURATION_MS = 5_000;
/** Sent in heartbeats by instances that read the table. */
const READS_TABLE = "table";

type Dependencies = Omit<InstancesBusDependencies, "server" | "sql"> & {
  database: Database;
  /** The deployment's id, which all its instances share. */
  deployment: string;
};

/**
 * Creates the bus over Postgres. For most stored events, NOTIFY sends only the sequence number. Short messages, and messages that
 * aren't stored, are sent in full. If a pooler breaks LISTEN, heartbeats don't arrive, and messages are exchanged through a table.
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
  const subscribedChannels = new Set<string>();
  const sharedChannelNames = new Set<string>(sharedChannels);
  const partAssembler = createPartAssembler();
  const table = createBusTable(database, { onPayload: deliverPayload, onStarted: notifyAllListening });
  const openSender = () =>
    createSidePool(database, 1, { idleTimeoutS: 0, closeTimeoutS: 0, statementTimeoutMs: SEND_TIMEOUT_MS });
  let sender = openSender();
  let hasSent = false;
  let reconnects = 0;
  let tableWritesEndAtMs = 0;
  let listenRetriedAtMs = 0;
  const listener = createNotificationListener(database, channel, {
    onPayload(payload) {
      if (table.isRunning()) switchToListener();
      const joined = partAssembler.add(payload);
      if (joined !== null) deliverPayload(joined);
    },
    onListening() {
      partAssembler.clear();
      notifyAllListening();
    },
  });

  function notifyAllListening(): void {
    for (const name of subscribedChannels) bus.onListening(name);
  }

  function deliverPayload(payload: string): void {
    for (const envelope of splitEnvelopes(payload)) bus.onEnvelope(envelope.channel, envelope.text);
  }

  function switchToTable(): void {
    log.warn(
      "LISTEN doesn't work on this database connection, probably because of a pooler in transaction mode. Instances poll for " +
        "messages, with a delay of up to a second. Set REDIS_URL, or change DATABASE_URL to connect directly to Postgres.",
    );
    listenRetriedAtMs = performance.now();
    table.start();
  }

  function switchToListener(): void {
    log.info("LISTEN works on this database connection again");
    table.stop();
    notifyAllListening();
  }

  async function send(envelopes: readonly Envelope[]): Promise<void> {
    try {
      await notify(envelopes);
    } catch (error) {
      // A pooler may have been detected since the connection was opened. A new connection adapts to the pooler.
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
    // The commit doesn't have to wait for the disk, because all events are either already stored or ephemeral.
    await sql`
      select pg_notify(${channel}, p), set_config('synchronous_commit', 'off', true)
      from unnest(${packEnvelopes(envelopes, instanceId)}::text[]) p`;
    if (table.isRunning() || performance.now() < tableWritesEndAtMs)
      await sql`insert into bus_messages (payload) values (${joinEnvelopes(envelopes)})`;
    hasSent = true;
  }

  return {
    concurrentSendsMax: 1,
    batchCharsMax: BATCH_CHARS_MAX,
    get batchIntervalMs() {
      return table.isRunning() ? TABLE_INTERVAL_MS : NOTIFY_INTERVAL_MS;
    },
    isPushing: () => listener.isListening() && !table.isRunning(),
    prepare: (name, messages) => (sharedChannelNames.has(name) ? messages : replaceStoredEvents(name, messages)),
    send,
    getRequest: () => (table.isRunning() ? READS_TABLE : undefined),
    onRequest(request) {
      if (request === READS_TABLE) tableWritesEndAtMs = performance.now() + TABLE_WRITE_DURATION_MS;
    },
    listen(name) {
      subscribedChannels.add(name);
      // This instance receives all channels anyway, so a subscription takes effect immediately.
      if (listener.isListening() || table.isRunning())
        queueMicrotask(() => subscribedChannels.has(name) && bus.onListening(name));
    },
    unlisten: (name) => void subscribedChannels.delete(name),
    reconnect() {
      reconnects = listener.isListening() && hasSent ? reconnects + 1 : 0;
      hasSent = false;
      // Behind a pooler in transaction mode, LISTEN would apply to a connection that other clients use.
      const isPooled = isPooledByTransaction(database);
      if (!table.isRunning() && (isPooled || reconnects >= RECONNECTS_MAX)) switchToTable();
      if (table.isRunning() && (isPooled || performance.now() - listenRetriedAtMs < LISTEN_RETRY_MS)) return;
      listenRetriedAtMs = performance.now();
      listener.reconnect();
      renewSender();
    },
    async close() {
      table.stop();
      await Promise.all([listener.close(), sender.close()]);
    },
  };
}
