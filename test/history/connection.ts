import type { Frame } from "../support/socket.ts";

type Options = {
  url: string;
  token: string;
  onFrame(frame: Frame): void;
};

export type Connection = {
  /**
   * Resolves with the ack or the error; with null if the connection closes first.
   * @param onAnswer is called at once, before any later frame.
   */
  ask(frame: { type: string; [field: string]: unknown }, onAnswer?: (answer: Frame) => void): Promise<Frame | null>;
  /** Sends a frame that gets no response. */
  tell(frame: { type: string; [field: string]: unknown }): void;
  isOpen(): boolean;
  closed: Promise<{ code: number; reason: string }>;
  close(): void;
};

/** Opens a socket and waits for `ready`. @returns null if it closes before that. */
export async function connect({ url, token, onFrame }: Options): Promise<Connection | null> {
  const options = { protocols: ["parley.v1"], headers: { authorization: `Bearer ${token}` } };
  const socket = new WebSocket(`${url.replace("http", "ws")}/realtime`, options as unknown as string[]);
  const answers = new Map<string, (frame: Frame | null) => void>();
  const { promise: ready, resolve: setReady } = Promise.withResolvers<boolean>();
  const { promise: closed, resolve: setClosed } = Promise.withResolvers<{ code: number; reason: string }>();
  let nextId = 0;
  let isOpen = false;

  socket.onmessage = ({ data }) => {
    const frame = JSON.parse(String(data)) as Frame;
    const answer = answers.get(frame.id ?? "");
    if (frame.type === "ready") {
      isOpen = true;
      setReady(true);
    } else if (answer) {
      answers.delete(frame.id ?? "");
      answer(frame);
    } else onFrame(frame);
  };
  socket.onclose = ({ code, reason }) => {
    isOpen = false;
    setReady(false);
    setClosed({ code, reason });
    for (const answer of answers.values()) answer(null);
    answers.clear();
  };

  if (!(await ready)) return null;
  return {
    closed,
    isOpen: () => isOpen,
    tell: (frame) => void (isOpen && socket.send(JSON.stringify(frame))),
    ask(frame, onAnswer) {
      if (!isOpen) return Promise.resolve(null);
      nextId += 1;
      const id = `q${nextId}`;
      const { promise, resolve } = Promise.withResolvers<Frame | null>();
      answers.set(id, (answer) => {
        if (answer) onAnswer?.(answer);
        resolve(answer);
      });
      socket.send(JSON.stringify({ ...frame, id }));
      return promise;
    },
    close: () => socket.close(1000),
  };
}
