import type { Frame } from "../support/socket.ts";

type ConnectionOptions = {
  url: string;
  token: string;
  onFrame(frame: Frame): void;
};

export type Connection = {
  /**
   * Sends a frame. @returns its ack or error, or null if the connection closes first.
   * @param onResponse is called before any later frame is handled.
   */
  request(
    frame: { type: string; [field: string]: unknown },
    onResponse?: (response: Frame) => void,
  ): Promise<Frame | null>;
  /** Sends a frame that receives no response. */
  send(frame: { type: string; [field: string]: unknown }): void;
  isOpen(): boolean;
  closed: Promise<{ code: number; reason: string }>;
  close(): void;
};

/** Opens a socket and waits for `ready`. @returns null if the socket closes first. */
export async function openConnection({ url, token, onFrame }: ConnectionOptions): Promise<Connection | null> {
  const options = { protocols: ["parley.v1"], headers: { authorization: `Bearer ${token}` } };
  const socket = new WebSocket(`${url.replace("http", "ws")}/realtime`, options as unknown as string[]);
  const pendingRequests = new Map<string, (frame: Frame | null) => void>();
  const { promise: ready, resolve: setReady } = Promise.withResolvers<boolean>();
  const { promise: closed, resolve: setClosed } = Promise.withResolvers<{ code: number; reason: string }>();
  let nextId = 0;
  let isOpen = false;

  socket.onmessage = ({ data }) => {
    const frame = JSON.parse(String(data)) as Frame;
    const resolveRequest = pendingRequests.get(frame.id ?? "");
    if (frame.type === "ready") {
      isOpen = true;
      setReady(true);
    } else if (resolveRequest) {
      pendingRequests.delete(frame.id ?? "");
      resolveRequest(frame);
    } else onFrame(frame);
  };
  socket.onclose = ({ code, reason }) => {
    isOpen = false;
    setReady(false);
    setClosed({ code, reason });
    for (const resolveRequest of pendingRequests.values()) resolveRequest(null);
    pendingRequests.clear();
  };

  if (!(await ready)) return null;
  return {
    closed,
    isOpen: () => isOpen,
    send: (frame) => void (isOpen && socket.send(JSON.stringify(frame))),
    request(frame, onResponse) {
      if (!isOpen) return Promise.resolve(null);
      nextId += 1;
      const id = `q${nextId}`;
      const { promise, resolve } = Promise.withResolvers<Frame | null>();
      pendingRequests.set(id, (response) => {
        if (response) onResponse?.(response);
        resolve(response);
      });
      socket.send(JSON.stringify({ ...frame, id }));
      return promise;
    },
    close: () => socket.close(1000),
  };
}
