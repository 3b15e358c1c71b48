import { createSidePool, type Database } from "../../db/client.ts";

const RETRY_MS_MIN = 100;
const RETRY_MS_MAX = 1_000;

type Hooks = {
  onPayload(payload: string): void;
  /** Called whenever LISTEN takes effect, initially and after each reconnect. */
  onListening(): void;
};

/** Opens a dedicated connection that listens on one channel, and reconnects whenever it is closed. */
export function createNotificationListener(database: Database, channel: string, { onPayload, onListening }: Hooks) {
  let pool: ReturnType<typeof createSidePool> | undefined;
  let isListening = false;
  let isClosed = false;
  let retryMs = RETRY_MS_MIN;
  let timer: Timer | undefined;

  async function connect(): Promise<void> {
    if (isClosed) return;
    const openedPool = createSidePool(database, 1, {
      idleTimeoutS: 0,
      closeTimeoutS: 0,
      onNotification: (name, payload) => {
        if (openedPool === pool && name === channel) onPayload(payload);
      },
      onClosed: () => scheduleReconnect(openedPool),
    });
    pool = openedPool;
    try {
      await openedPool.open().unsafe(`listen "${channel}"`);
      if (openedPool !== pool || isClosed) return;
      isListening = true;
      retryMs = RETRY_MS_MIN;
      onListening();
    } catch {
      scheduleReconnect(openedPool);
    }
  }

  function scheduleReconnect(closedPool: typeof pool): void {
    if (closedPool !== pool || isClosed) return;
    isListening = false;
    pool = undefined;
    void closedPool?.close();
    timer = setTimeout(connect, retryMs * (0.5 + Math.random() / 2));
    retryMs = Math.min(2 * retryMs, RETRY_MS_MAX);
  }

  void connect();

  return {
    isListening: (): boolean => isListening,
    /** Drops the connection, which may be dead, and opens a new one. */
    reconnect(): void {
      if (pool) scheduleReconnect(pool);
    },
    async close(): Promise<void> {
      isClosed = true;
      isListening = false;
      clearTimeout(timer);
      await pool?.close();
    },
  };
}
