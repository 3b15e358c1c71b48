import { createServer, connect as openConnection, type Socket } from "node:net";

/** What the proxy does with requests. */
type Mode = "forwards" | "rejects" | "stalls" | "disconnects" | "sends nonsense" | "sends extra data";

type ProxiedRequest = {
  kind: "tunnel" | "absolute";
  /** The requested host and port. */
  target: string;
  authorization: string | null;
  /** The client's port, which identifies its connection. */
  clientPort: number;
};

const fixedResponses: Partial<Record<Mode, string>> = {
  rejects: "HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nForbidden",
  "sends extra data": "HTTP/1.1 200 Connection established\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
  "sends nonsense": "220 mail.example.com ESMTP\r\n\r\n",
};

/**
 * Starts an HTTP proxy on 127.0.0.1 that supports CONNECT and requests with absolute URLs. It connects to 127.0.0.1
 * instead of the requested host, so hosts don't have to exist.
 * @param credentials The required `user:password`, if any.
 */
export async function startHttpProxy(credentials: string | null = null) {
  const requests: ProxiedRequest[] = [];
  const state = { mode: "forwards" as Mode, credentials };
  const sockets = new Set<Socket>();

  function trackSocket(socket: Socket): Socket {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => socket.destroy());
    return socket;
  }

  /** Connects to the upstream server, and forwards its data no faster than the client reads. */
  function openUpstream(client: Socket, target: string, onConnect: () => void): Socket {
    const upstream = trackSocket(
      openConnection({ host: "127.0.0.1", port: Number(target.split(":").at(-1)) }, onConnect),
    );
    upstream.on("error", () => client.destroy());
    client.on("close", () => upstream.destroy());
    upstream.pipe(client);
    client.on("end", () => upstream.end());
    return upstream;
  }

  /** Returns the request head to forward, or null if the proxy doesn't forward the request. */
  function processHead(client: Socket, head: string): { isTunnel: boolean; target: string; text: string } | null {
    const [line = "", ...fields] = head.split("\r\n");
    const [method = "", requestTarget = "", version = ""] = line.split(" ");
    const isTunnel = method === "CONNECT";
    const url = isTunnel ? null : new URL(requestTarget);
    const target = url === null ? requestTarget : `${url.hostname}:${url.port || 80}`;
    const authorization = /^proxy-authorization: (.*)$/im.exec(head)?.[1]?.trim() ?? null;
    requests.push({
      kind: isTunnel ? "tunnel" : "absolute",
      target,
      authorization,
      clientPort: client.remotePort ?? 0,
    });
    const { mode } = state;
    if (mode === "stalls") return null;
    const isAuthorized = state.credentials === null || authorization === `Basic ${btoa(state.credentials)}`;
    if (mode === "disconnects") client.destroy();
    else if (mode !== "forwards") client.end(fixedResponses[mode] ?? "");
    else if (!isAuthorized)
      client.end(
        "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n",
      );
    else {
      const forwardedFields = fields.filter((field) => !/^proxy-/i.test(field));
      const path = url === null ? "" : url.pathname + url.search;
      return { isTunnel, target, text: [`${method} ${path} ${version}`, ...forwardedFields, "", ""].join("\r\n") };
    }
    return null;
  }

  const server = createServer((client) => {
    trackSocket(client);
    let upstream: Socket | null = null;
    let isTunnel = false;
    let unparsedBytes = Buffer.alloc(0);
    let remainingBodyBytes = 0;
    client.on("data", (packet: Buffer) => {
      if (isTunnel) {
        upstream?.write(packet);
        return;
      }
      unparsedBytes = Buffer.concat([unparsedBytes, packet]);
      for (;;) {
        const body = unparsedBytes.subarray(0, remainingBodyBytes);
        if (body.length > 0) upstream?.write(body);
        remainingBodyBytes -= body.length;
        unparsedBytes = unparsedBytes.subarray(body.length);
        const headEnd = unparsedBytes.indexOf("\r\n\r\n");
        if (headEnd < 0) return;
        const head = unparsedBytes.toString("latin1", 0, headEnd);
        unparsedBytes = unparsedBytes.subarray(headEnd + 4);
        const request = processHead(client, head);
        if (request === null) return;
        isTunnel = request.isTunnel;
        if (isTunnel) {
          upstream = openUpstream(client, request.target, () =>
            client.write("HTTP/1.1 200 Connection established\r\n\r\n"),
          );
          return;
        }
        upstream ??= openUpstream(client, request.target, () => {});
        upstream.write(request.text, "latin1");
        remainingBodyBytes = Number(/^content-length: (\d+)$/im.exec(head)?.[1] ?? 0);
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
    /** Whether a client's connection is open. */
    isOpen: (clientPort: number): boolean => [...sockets].some(({ remotePort }) => remotePort === clientPort),
    async stop(): Promise<void> {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export type HttpProxy = Awaited<ReturnType<typeof startHttpProxy>>;
