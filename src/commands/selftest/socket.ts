import type { StoredMessage } from "./rest.ts";

/** A frame from the server. */
export type Frame = {
  type: string;
  id?: string;
  seq?: number;
  code?: string;
  conversation_id?: string;
  message_id?: string;
  attempt?: number;
  offset?: number;
  text?: string;
  temporary?: boolean;
  duplicate?: boolean;
  recovered?: boolean;
  last_seq?: number;
  events?: Frame[];
  message?: StoredMessage;
  data?: Partial<StoredMessage>;
};

type FrameListener = (frame: Frame) => void;

const RESPONSE_TIMEOUT_MS = 20_000;

export type ClientSocket = Awaited<ReturnType<typeof connectSocket>>;

/**
 * Connects to `/realtime` and waits until the server is ready for frames. Every frame is kept in `frames`, in order.
 * @throws Error if the server rejects the connection.
 */
export async function connectSocket(url: string, token: string, onFrame: FrameListener = () => {}) {
  // Bun's WebSocket accepts headers, but the DOM types don't declare them.
  const options = { protocols: ["parley.v1"], headers: { authorization: `Bearer ${token}` } } as unknown as string[];
  const socket = new WebSocket(`${url.replace("http", "ws")}/realtime`, options);
  const frames: Frame[] = [];
  const listeners = new Set<FrameListener>();
  /** Functions that resolve a request with its response, by frame id. */
  const pendingRequests = new Map<string, (frame: Frame) => void>();
  let requestCount = 0;
  const closed = new Promise<number>((resolve) => {
    socket.onclose = ({ code }) => resolve(code);
  });
  socket.onmessage = ({ data }) => {
    const frame = JSON.parse(String(data)) as Frame;
    frames.push(frame);
    if (frame.id !== undefined && (frame.type === "ack" || frame.type === "error")) {
      pendingRequests.get(frame.id)?.(frame);
      pendingRequests.delete(frame.id);
    }
    onFrame(frame);
    for (const listener of listeners) listener(frame);
  };

  /** Returns the first matching frame, or waits for one. @throws Error after the timeout. */
  async function waitFor(description: string, matches: (frame: Frame) => boolean, timeoutMs = RESPONSE_TIMEOUT_MS) {
    const receivedFrame = frames.find(matches);
    if (receivedFrame) return receivedFrame;
    const { promise, resolve, reject } = Promise.withResolvers<Frame>();
    const listener = (frame: Frame) => void (matches(frame) && resolve(frame));
    listeners.add(listener);
    const timer = setTimeout(
      () => reject(new Error(`expected ${description} within ${timeoutMs / 1_000} s`)),
      timeoutMs,
    );
    void closed.then((code) => reject(new Error(`expected ${description}, but the socket was closed with ${code}`)));
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      listeners.delete(listener);
    }
  }

  const client = {
    frames,
    closed,
    waitFor,
    isOpen: () => socket.readyState === WebSocket.OPEN,

    /** Sends a frame and returns the response: an ack or an error. @throws Error if the connection is closed first. */
    async request(frame: Record<string, unknown> & { type: string }): Promise<Frame> {
      requestCount += 1;
      const id = String(requestCount);
      const { promise, resolve, reject } = Promise.withResolvers<Frame>();
      pendingRequests.set(id, resolve);
      void closed.then((code) => reject(new Error(`${frame.type} was not acknowledged: closed with ${code}`)));
      socket.send(JSON.stringify({ ...frame, id }));
      return promise;
    },

    /** Subscribes to a conversation. @throws Error if the server rejects the subscription. */
    async subscribe(conversationId: string, afterSeq?: number): Promise<Frame> {
      const position = afterSeq === undefined ? {} : { after_seq: afterSeq };
      const ack = await client.request({ type: "subscribe", conversation_id: conversationId, ...position });
      if (ack.type !== "ack") throw new Error(`expected an ack of subscribe, but got ${JSON.stringify(ack)}`);
      return ack;
    },

    async close(): Promise<void> {
      socket.close(1000);
      await closed;
    },
  };
  await waitFor("the frame `ready`", ({ type }) => type === "ready");
  return client;
}

/** Connects and subscribes to a conversation. */
export async function connectAndSubscribe(url: string, token: string, conversationId: string, afterSeq?: number) {
  const socket = await connectSocket(url, token);
  await socket.subscribe(conversationId, afterSeq);
  return socket;
}
