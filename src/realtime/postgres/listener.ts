import { createSidePool, type Database } from "../../db/client.ts";

const RETRY_MS_MIN = 100;
const RETRY_MS_MAX = 1_000;

type Hooks = {
  onPayload(payload: string): void;
  /** Called when payloads begin to arrive, for the first time or again. */
  onListening(): void;
};

/** Opens a dedicated connection that listens to one channel, and reconnects whenever it is closed. */
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

  function retry(closedPool: typeof pool): void {
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
