import type { Socket } from "bun";
import { ConnectError, createCertificateError } from "./errors.ts";
import { createProxyFailure, encodeConnect, type ProxyRoute } from "./proxy.ts";
import { createTunnelReader } from "./tunnel.ts";

/**
 * Timeout for opening a connection, including the TLS handshake. It is much shorter than the timeouts for silent models,
 * because no model is working yet.
 */
export const CONNECT_TIMEOUT_MS = 10_000;
/**
 * Idle time before TCP keep-alive probes. A model may think for minutes: probes keep the connection alive in a NAT or load
 * balancer, and detect a vanished server after another 10 s.
 */
export const PROBE_AFTER_MS = 15_000;

/** Where and how to connect. */
export type HttpTarget = {
  /** Decides whether TLS is used, and the name to verify in the certificate. */
  url: URL;
  /** Key of the connection pool. */
  origin: string;
  /** The IP address to connect to; absent: the host of the URL is resolved. */
  address?: string;
  /** The proxy to connect through; absent or null: none. */
  proxy?: ProxyRoute | null;
  /** Overrides CONNECT_TIMEOUT_MS. */
  connectTimeoutMs?: number;
  /** Overrides the parser's limit for the head of a response. */
  headBytesMax?: number;
  /**
   * Called if the connection is abandoned before it is open. The system keeps trying for about two minutes, and holds a file
   * descriptor meanwhile. @param ended fulfills when that is over.
   */
  onAbandon?: (ended: Promise<unknown>) => void;
};

export type SocketListener = {
  /** The socket is writable; with TLS, the certificate is verified. */
  onOpen(socket: Socket): void;
  onData(bytes: Uint8Array): void;
  onDrain(): void;
  /** Null: closed without an error. May be called more than once. */
  onClose(error: Error | null): void;
};

/** A connection that is opening. */
export type OpeningSocket = {
  /** Closes it, at any stage. */
  close(): void;
};

type Address = { hostname: string; port: number };

/** Host and port, as in a request. */
const writeAuthority = ({ hostname, port }: Address): string =>
  `${hostname.includes(":") ? `[${hostname}]` : hostname}:${port}`;

/** Opens a connection to a server, through a proxy if the target has one. The listener is always notified of its end. */
export function openSocket(target: HttpTarget, listener: SocketListener): OpeningSocket {
  const { url, address, proxy = null, connectTimeoutMs = CONNECT_TIMEOUT_MS, onAbandon } = target;
  const isSecure = url.protocol === "https:";
  const name = url.hostname.replace(/^\[(.*)\]$/, "$1");
  const server = { hostname: address ?? name, port: Number(url.port) || (isSecure ? 443 : 80) };
  const tls = { serverName: name.replace(/\.$/, "") };
  /** The newest socket: TLS in a tunnel has its own. */
  let socket: Socket | null = null;
  let isClosed = false;

  const fail = (error: Error) =>
    listener.onClose(proxy === null ? new ConnectError(error) : createProxyFailure(proxy, error));
  const timer = setTimeout(
    () => fail(new Error(`no connection${proxy ? ` to ${writeAuthority(server)}` : ""} in ${connectTimeoutMs} ms`)),
    connectTimeoutMs,
  );
  timer.unref();

  function open(opened: Socket): void {
    if (isClosed) return;
    clearTimeout(timer);
    listener.onOpen(opened);
  }

  const handlers = {
    data: (_socket: Socket, bytes: Uint8Array) => listener.onData(bytes),
    drain: () => listener.onDrain(),
    end: () => listener.onClose(null),
    close: (_socket: Socket, error?: Error) => listener.onClose(error ?? null),
    error: (_socket: Socket, error: Error) => listener.onClose(error),
  };
  // With TLS, nothing is sent before the certificate is verified.
  const secureHandlers = {
    ...handlers,
    handshake(secure: Socket, isAuthorized: boolean, error: Error | null) {
      if (isAuthorized) return open(secure);
      listener.onClose(createCertificateError(error));
    },
  };

  /** Accepts the socket, unless the caller has closed it. */
  function take(connected: Socket): boolean {
    if (isClosed) connected.terminate();
    else {
      socket = connected;
      connected.setKeepAlive(true, PROBE_AFTER_MS);
    }
    return !isClosed;
  }

  function connect(
    { hostname, port }: Address,
    isTls: boolean,
    onConnect: (socket: Socket) => void,
    events = handlers,
  ) {
    return Bun.connect({
      hostname,
      port,
      ...(isTls && { tls }),
      socket: {
        ...events,
        open(connected) {
          if (take(connected)) onConnect(connected);
        },
        connectError: (_socket, error) => fail(error),
      },
    }).catch(fail);
  }

  function connectByTunnel(route: ProxyRoute): Promise<unknown> {
    const authority = writeAuthority(server);
    const read = createTunnelReader(route, authority);
    let isEstablished = false;
    /** Until the tunnel is open, an end is the proxy's; afterwards TLS reports it. */
    const end = (error: Error | null) => {
      if (!isEstablished) fail(error ?? new Error("it closed the connection without a response"));
      else if (!isSecure) listener.onClose(error);
    };
    const begin = (raw: Socket) => {
      if (!isSecure) return open(raw);
      const [, secure] = raw.upgradeTLS({ data: undefined, tls, socket: secureHandlers });
      socket = secure;
    };
    const events = {
      data(raw: Socket, bytes: Uint8Array) {
        if (isClosed) return;
        if (isEstablished) {
          if (!isSecure) listener.onData(bytes);
          return;
        }
        try {
          isEstablished = read(bytes);
          if (isEstablished) begin(raw);
        } catch (error) {
          listener.onClose(error instanceof Error ? error : new Error("tunnel failed"));
        }
      },
      drain: () => isEstablished && !isSecure && listener.onDrain(),
      end: () => end(null),
      close: (_socket: Socket, error?: Error) => end(error ?? null),
      error: (_socket: Socket, error: Error) => end(error),
    };
    return connect(route, false, (raw) => void raw.write(encodeConnect(route, authority)), events as typeof handlers);
  }

  let connecting: Promise<unknown>;
  if (proxy?.isTunnel) connecting = connectByTunnel(proxy);
  else if (proxy) connecting = connect(proxy, false, open);
  else connecting = connect(server, isSecure, isSecure ? () => {} : open, isSecure ? secureHandlers : handlers);

  return {
    close() {
      if (isClosed) return;
      isClosed = true;
      clearTimeout(timer);
      if (socket) socket.terminate();
      else onAbandon?.(connecting);
    },
  };
}
