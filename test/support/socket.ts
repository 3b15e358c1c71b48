/** A frame from the server. It can have any field, so that tests don't need a type for each kind of frame. */
export type Frame = {
  type: string;
  id?: string | null;
  seq?: number;
  code?: string;
  conversation_id?: string;
  data?: Record<string, unknown> & { id?: string; content?: string; seq?: number };
  [field: string]: unknown;
};

type Waiter = { matches(frame: Frame): boolean; resolve(frame: Frame): void };

export type TestSocket = Awaited<ReturnType<typeof openSocket>>;

/** Bun's WebSocket supports headers, unlike browsers. */
type Options = {
  token?: string;
  protocols?: string[];
  query?: string;
  headers?: Record<string, string>;
  tls?: { rejectUnauthorized: boolean } | { ca: string };
};

/** Connects to `/realtime`. Received frames are added to `frames`. */
export async function openSocket(
  url: string,
  { token, protocols = ["parley.v1"], query = "", headers, tls }: Options = {},
) {
  const options = {
    protocols,
    headers: { ...(token !== undefined && { authorization: `Bearer ${token}` }), ...headers },
    ...(tls && { tls }),
  };
  const socket = new WebSocket(`${url.replace("http", "ws")}/realtime${query}`, options as unknown as string[]);
  const frames: Frame[] = [];
  const waiters = new Set<Waiter>();
  let nextId = 0;
  const closed = new Promise<{ code: number; reason: string }>((resolve) => {
    socket.onclose = ({ code, reason }) => resolve({ code, reason });
  });
  socket.onmessage = ({ data }) => {
    const frame = JSON.parse(String(data)) as Frame;
    frames.push(frame);
    for (const waiter of waiters)
      if (waiter.matches(frame)) {
        waiters.delete(waiter);
        waiter.resolve(frame);
      }
  };
  await Promise.race([
    new Promise((resolve) => {
      socket.onopen = resolve;
    }),
    closed.then(({ code, reason }) =>
      Promise.reject(new Error(`The socket was closed during the handshake: ${code} ${reason}`)),
    ),
  ]);

  /** Waits for a matching frame unless it has already been received. */
  function waitFor(matches: (frame: Frame) => boolean, waitMs = 5_000): Promise<Frame> {
    const receivedFrame = frames.find(matches);
    if (receivedFrame) return Promise.resolve(receivedFrame);
    return new Promise((resolve, reject) => {
      const waiter = { matches, resolve };
      waiters.add(waiter);
      setTimeout(() => {
        if (waiters.delete(waiter))
          reject(new Error(`No match within ${waitMs} ms. Received: ${frames.map((frame) => frame.type).join(" ")}`));
      }, waitMs);
    });
  }

  return {
    socket,
    frames,
    closed,
    waitFor,
    send: (frame: object | string) => socket.send(typeof frame === "string" ? frame : JSON.stringify(frame)),

    /** Sends a frame with an id, and waits for the ack or error. */
    async request(frame: Record<string, unknown> & { type: string }): Promise<Frame> {
      nextId += 1;
      const id = `q${nextId}`;
      socket.send(JSON.stringify({ id, ...frame }));
      return waitFor(
        (response) => response.id === (frame.id ?? id) && (response.type === "ack" || response.type === "error"),
      );
    },

    /** Lists the received frames of a type. */
    list: (type: string): Frame[] => frames.filter((frame) => frame.type === type),

    async close(): Promise<void> {
      socket.close(1000);
      await closed;
    },
  };
}
