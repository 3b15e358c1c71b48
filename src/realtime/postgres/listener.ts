import { createSidePool, type Database } from "../../db/client.ts";

const RETRY_MS_MIN = 100;
const RETRY_MS_MAX = 1_000;

type Hooks = {
  onPayload(payload: string): void;
  /** Payloads arrive from now on, for the first time or again. */
  onListening(): void;
};

/** A dedicated connection that listens to one channel, and reconnects whenever it ends. */
export function createNotificationListener(database: Database, channel: string, { onPayload, onListening }: Hooks) {
  let pool: ReturnType<typeof createSidePool> | undefined;
  let isListening = false;
  let isClosed = false;
  let retryMs = RETRY_MS_MIN;
  let timer: Timer | undefined;

  async function connect(): Promise<void> {
    if (isClosed) return;
    const opened = createSidePool(database, 1, {
      idleTimeoutS: 0,
      closeTimeoutS: 0,
      onNotification: (name, payload) => {
        if (opened === pool && name === channel) onPayload(payload);
      },
      onClosed: () => retry(opened),
    });
    pool = opened;
    try {
      await opened.open().unsafe(`listen "${channel}"`);
      if (opened !== pool || isClosed) return;
      isListening = true;
      retryMs = RETRY_MS_MIN;
      onListening();
    } catch {
      retry(opened);
    }
  }

  function retry(own: typeof pool): void {
    if (own !== pool || isClosed) return;
    isListening = false;
    pool = undefined;
    void own?.close();
    timer = setTimeout(connect, retryMs * (0.5 + Math.random() / 2));
    retryMs = Math.min(2 * retryMs, RETRY_MS_MAX);
  }

  void connect();

  return {
    isListening: (): boolean => isListening,
    /** Drops the connection, which may be dead. */
    reconnect(): void {
      if (pool) retry(pool);
    },
    async close(): Promise<void> {
      isClosed = true;
      isListening = false;
      clearTimeout(timer);
      await pool?.close();
    },
  };
}
