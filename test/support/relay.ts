type Address = { unix: string } | { hostname: string; port: number };
/** Changes the data that a server sends on one connection. */
export type Filter = (bytes: Buffer) => Buffer;
type Endpoint = { peer: Promise<Bun.Socket<Endpoint>>; unsentChunks: Buffer[]; hasClosed: boolean };

/**
 * Starts a relay between clients and a server. `cut` simulates a network failure. Connections then stay open, but no data
 * is delivered. `restore` delivers the data that was sent since `cut`, as TCP does.
 */
export function startRelay(
  listenAddress: Address,
  server: Address,
  createFilter: () => Filter = () => (bytes) => bytes,
) {
  const sockets = new Set<Bun.Socket<Endpoint>>();
  let isNetworkCut = false;

  const handlers = {
    data(socket: Bun.Socket<Endpoint>, bytes: Buffer) {
      socket.data.unsentChunks.push(Buffer.from(bytes));
      void forwardUnsentBytes(socket);
    },
    close(socket: Bun.Socket<Endpoint>) {
      sockets.delete(socket);
      socket.data.hasClosed = true;
      void forwardUnsentBytes(socket);
    },
    drain(socket: Bun.Socket<Endpoint>) {
      void socket.data.peer.then((peer) => forwardUnsentBytes(peer));
    },
    error() {},
  };

  async function forwardUnsentBytes(socket: Bun.Socket<Endpoint>): Promise<void> {
    const { data } = socket;
    const peer = await data.peer.catch(() => null);
    if (!peer) return void socket.end();
    while (!isNetworkCut && data.unsentChunks.length > 0) {
      const [bytes = Buffer.alloc(0)] = data.unsentChunks;
      const writtenBytes = peer.write(bytes);
      if (writtenBytes < bytes.length) {
        data.unsentChunks[0] = bytes.subarray(Math.max(0, writtenBytes));
        return;
      }
      data.unsentChunks.shift();
    }
    if (!isNetworkCut && data.hasClosed) peer.end();
  }

  const relay = Bun.listen<Endpoint>({
    ...listenAddress,
    socket: {
      ...handlers,
      open(client) {
        sockets.add(client);
        const filter = createFilter();
        const serverSocket = Bun.connect<Endpoint>({
          ...server,
          data: { peer: Promise.resolve(client), unsentChunks: [], hasClosed: false },
          socket: {
            ...handlers,
            open: (socket: Bun.Socket<Endpoint>) => void sockets.add(socket),
            data: (socket: Bun.Socket<Endpoint>, bytes: Buffer) => handlers.data(socket, filter(bytes)),
          },
        } as Bun.TCPSocketConnectOptions<Endpoint>);
        serverSocket.catch(() => client.end());
        client.data = { peer: serverSocket, unsentChunks: [], hasClosed: false };
      },
    },
  } as Bun.TCPSocketListenOptions<Endpoint>);

  return {
    port: relay.port,
    cut(): void {
      isNetworkCut = true;
    },
    restore(): void {
      isNetworkCut = false;
      for (const socket of [...sockets]) void forwardUnsentBytes(socket);
    },
    /** Closes all connections, like a server that crashes. */
    reset(): void {
      for (const socket of [...sockets]) socket.end();
    },
    stop: () => relay.stop(true),
  };
}
