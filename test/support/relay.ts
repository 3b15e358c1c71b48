type Address = { unix: string } | { hostname: string; port: number };
/** Changes the data that a server sends on one connection. */
export type Filter = (bytes: Buffer) => Buffer;
type Endpoint = { peer: Promise<Bun.Socket<Endpoint>>; unsent: Buffer[]; hasClosed: boolean };

/**
 * Starts a relay between clients and a server. `cut` simulates a network failure: connections stay open, but no data is
 * delivered. `restore` delivers the data sent since the cut, as TCP does.
 */
export function startRelay(
  listenAddress: Address,
  server: Address,
  createFilter: () => Filter = () => (bytes) => bytes,
) {
  const sockets = new Set<Bun.Socket<Endpoint>>();
  let isCut = false;

  const handlers = {
    data(socket: Bun.Socket<Endpoint>, bytes: Buffer) {
      socket.data.unsent.push(Buffer.from(bytes));
      void forward(socket);
    },
    close(socket: Bun.Socket<Endpoint>) {
      sockets.delete(socket);
      socket.data.hasClosed = true;
      void forward(socket);
    },
    drain(socket: Bun.Socket<Endpoint>) {
      void socket.data.peer.then((peer) => forward(peer));
    },
    error() {},
  };

  async function forward(socket: Bun.Socket<Endpoint>): Promise<void> {
    const { data } = socket;
    const peer = await data.peer.catch(() => null);
    if (!peer) return void socket.end();
    while (!isCut && data.unsent.length > 0) {
      const [bytes = Buffer.alloc(0)] = data.unsent;
      const written = peer.write(bytes);
      if (written < bytes.length) {
        data.unsent[0] = bytes.subarray(Math.max(0, written));
        return;
      }
      data.unsent.shift();
    }
    if (!isCut && data.hasClosed) peer.end();
  }

  const relay = Bun.listen<Endpoint>({
    ...listenAddress,
    socket: {
      ...handlers,
      open(client) {
        sockets.add(client);
        const filter = createFilter();
        const connected = Bun.connect<Endpoint>({
          ...server,
          data: { peer: Promise.resolve(client), unsent: [], hasClosed: false },
          socket: {
            ...handlers,
            open: (socket: Bun.Socket<Endpoint>) => void sockets.add(socket),
            data: (socket: Bun.Socket<Endpoint>, bytes: Buffer) => handlers.data(socket, filter(bytes)),
          },
        } as Bun.TCPSocketConnectOptions<Endpoint>);
        connected.catch(() => client.end());
        client.data = { peer: connected, unsent: [], hasClosed: false };
      },
    },
  } as Bun.TCPSocketListenOptions<Endpoint>);

  return {
    port: relay.port,
    cut(): void {
      isCut = true;
    },
    restore(): void {
      isCut = false;
      for (const socket of [...sockets]) void forward(socket);
    },
    /** Closes all connections, like a server that crashes. */
    reset(): void {
      for (const socket of [...sockets]) socket.end();
    },
    stop: () => relay.stop(true),
  };
}
