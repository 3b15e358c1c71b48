type Address = { unix: string } | { hostname: string; port: number };
/** Changes a server's data on one connection. */
export type Filter = (bytes: Buffer) => Buffer;
type Side = { other: Promise<Bun.Socket<Side>>; held: Buffer[]; isEnded: boolean };

/**
 * A relay between a client and a server. `cut` stops all data, like a failed network: connections stay open, and
 * neither side is notified. `restore` delivers the data sent meanwhile, as TCP does.
 */
export function startRelay(listenAt: Address, server: Address, createFilter: () => Filter = () => (bytes) => bytes) {
  const sockets = new Set<Bun.Socket<Side>>();
  let isCut = false;

  const handlers = {
    data(socket: Bun.Socket<Side>, bytes: Buffer) {
      socket.data.held.push(Buffer.from(bytes));
      void forward(socket);
    },
    close(socket: Bun.Socket<Side>) {
      sockets.delete(socket);
      socket.data.isEnded = true;
      void forward(socket);
    },
    drain(socket: Bun.Socket<Side>) {
      void socket.data.other.then((other) => forward(other));
    },
    error() {},
  };

  async function forward(socket: Bun.Socket<Side>): Promise<void> {
    const { data } = socket;
    const other = await data.other.catch(() => null);
    if (!other) return void socket.end();
    while (!isCut && data.held.length > 0) {
      const [bytes = Buffer.alloc(0)] = data.held;
      const written = other.write(bytes);
      if (written < bytes.length) {
        data.held[0] = bytes.subarray(Math.max(0, written));
        return;
      }
      data.held.shift();
    }
    if (!isCut && data.isEnded) other.end();
  }

  const relay = Bun.listen<Side>({
    ...listenAt,
    socket: {
      ...handlers,
      open(client) {
        sockets.add(client);
        const filter = createFilter();
        const connected = Bun.connect<Side>({
          ...server,
          data: { other: Promise.resolve(client), held: [], isEnded: false },
          socket: {
            ...handlers,
            open: (socket: Bun.Socket<Side>) => void sockets.add(socket),
            data: (socket: Bun.Socket<Side>, bytes: Buffer) => handlers.data(socket, filter(bytes)),
          },
        } as Bun.TCPSocketConnectOptions<Side>);
        connected.catch(() => client.end());
        client.data = { other: connected, held: [], isEnded: false };
      },
    },
  } as Bun.TCPSocketListenOptions<Side>);

  return {
    port: relay.port,
    cut(): void {
      isCut = true;
    },
    restore(): void {
      isCut = false;
      for (const socket of [...sockets]) void forward(socket);
    },
    /** Resets all connections, like a crashing server. */
    reset(): void {
      for (const socket of [...sockets]) socket.end();
    },
    stop: () => relay.stop(true),
  };
}
