import { createServer, connect as dial, type Socket } from "node:net";

/** How it handles requests. */
type Mode = "forwards" | "refuses" | "stalls" | "disconnects" | "sends nonsense" | "sends extra data";

type SeenByProxy = {
  form: "tunnel" | "absolute";
  /** The requested host and port. */
  target: string;
  authorization: string | null;
  /** The client's connection, by its port. */
  clientPort: number;
};

const refusals: Partial<Record<Mode, string>> = {
  refuses: "HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nForbidden",
  "sends extra data": "HTTP/1.1 200 Connection established\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
  "sends nonsense": "220 mail.example.com ESMTP\r\n\r\n",
};

/**
 * An HTTP proxy on 127.0.0.1: CONNECT, and requests with absolute URLs. It maps every host to this machine at the same
 * port, so names need not exist.
 * @param credentials the required `user:password`; null: none.
 */
export async function startHttpProxy(credentials: string | null = null) {
  const requests: SeenByProxy[] = [];
  const state = { mode: "forwards" as Mode, credentials };
  const sockets = new Set<Socket>();

  function keep(socket: Socket): Socket {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => socket.destroy());
    return socket;
  }

  /** A connection to the upstream server, whose responses are forwarded, no faster than the client reads. */
  function openUpstream(client: Socket, target: string, onConnect: () => void): Socket {
    const upstream = keep(dial({ host: "127.0.0.1", port: Number(target.split(":").at(-1)) }, onConnect));
    upstream.on("error", () => client.destroy());
    client.on("close", () => upstream.destroy());
    upstream.pipe(client);
    client.on("end", () => upstream.end());
    return upstream;
  }

  /** Handles the head of a request. @returns the head to forward; null if the client got a response. */
  function takeHead(client: Socket, head: string): { isTunnel: boolean; target: string; text: string } | null {
    const [line = "", ...fields] = head.split("\r\n");
    const [method = "", requestTarget = "", version = ""] = line.split(" ");
    const isTunnel = method === "CONNECT";
    const url = isTunnel ? null : new URL(requestTarget);
    const target = url === null ? requestTarget : `${url.hostname}:${url.port || 80}`;
    const authorization = /^proxy-authorization: (.*)$/im.exec(head)?.[1]?.trim() ?? null;
    requests.push({
      form: isTunnel ? "tunnel" : "absolute",
      target,
      authorization,
      clientPort: client.remotePort ?? 0,
    });
    const { mode } = state;
    if (mode === "stalls") return null;
    const isAuthorized = state.credentials === null || authorization === `Basic ${btoa(state.credentials)}`;
    if (mode === "disconnects") client.destroy();
    else if (mode !== "forwards") client.end(refusals[mode] ?? "");
    else if (!isAuthorized)
      client.end(
        "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n",
      );
    else {
      const kept = fields.filter((field) => !/^proxy-/i.test(field));
      const path = url === null ? "" : url.pathname + url.search;
      return { isTunnel, target, text: [`${method} ${path} ${version}`, ...kept, "", ""].join("\r\n") };
    }
    return null;
  }

  const server = createServer((client) => {
    keep(client);
    let upstream: Socket | null = null;
    let isTunnel = false;
    let pending = Buffer.alloc(0);
    let bodyBytes = 0;
    client.on("data", (packet: Buffer) => {
      if (isTunnel) {
        upstream?.write(packet);
        return;
      }
      pending = Buffer.concat([pending, packet]);
      for (;;) {
        const body = pending.subarray(0, bodyBytes);
        if (body.length > 0) upstream?.write(body);
        bodyBytes -= body.length;
        pending = pending.subarray(body.length);
        const end = pending.indexOf("\r\n\r\n");
        if (end < 0) return;
        const head = pending.toString("latin1", 0, end);
        pending = pending.subarray(end + 4);
        const taken = takeHead(client, head);
        if (taken === null) return;
        isTunnel = taken.isTunnel;
        if (isTunnel) {
          upstream = openUpstream(client, taken.target, () =>
            client.write("HTTP/1.1 200 Connection established\r\n\r\n"),
          );
          return;
        }
        upstream ??= openUpstream(client, taken.target, () => {});
        upstream.write(taken.text, "latin1");
        bodyBytes = Number(/^content-length: (\d+)$/im.exec(head)?.[1] ?? 0);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };

  return {
    port,
    url: `http://127.0.0.1:${port}`,
    requests,
    state,
    /** Whether the connection of a client is open. */
    isOpen: (clientPort: number): boolean => [...sockets].some(({ remotePort }) => remotePort === clientPort),
    async stop(): Promise<void> {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export type HttpProxy = Awaited<ReturnType<typeof startHttpProxy>>;
