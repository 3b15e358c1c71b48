import type { Socket } from "bun";
import { ConnectError, createCertificateError } from "./errors.ts";
import { createProxyFailure, encodeConnect, type ProxyRoute } from "./proxy.ts";
import { createTunnelReader } from "./tunnel.ts";

/**
 * Timeout for opening a connection, including the TLS handshake.
 */
export const CONNECT_TIMEOUT_MS = 10_000;
/**
 * Idle time before TCP keep-alive probes are sent. A model may be silent for minutes. Probes prevent NATs and load balancers from
 * dropping the connection, and detect within 10 seconds that a server is down.
 */
export const PROBE_AFTER_MS = 15_000;

export type HttpTarget = {
  /** The scheme determines whether TLS is used. The certificate must be valid for the host. */
  url: URL;
  /** The connection's key in the connection pool. */
  origin: string;
  /** The IP address to connect to. By default, the URL's host is resolved. */
  address?: string;
  /** The HTTP proxy to connect through, if any. */
  proxy?: ProxyRoute | null;
  /** Overrides CONNECT_TIMEOUT_MS. */
  connectTimeoutMs?: number;
  /** Overrides the parser's limit for the head of a response. */
  headBytesMax?: number;
  /**
   * Called if `close` is called before the connection is open. The operating system keeps trying to connect for about two
   * minutes, which uses a file descriptor. @param ended resolves when the system has stopped trying.
   */
  onAbandon?: (ended: Promise<unknown>) => void;
};

export type SocketListener = {
  /** Called when the socket is writable. With TLS, the certificate has been verified. */
  onOpen(socket: Socket): void;
  onData(bytes: Uint8Array): void;
  onDrain(): void;
  /** Called when the socket is closed, possibly more than once. `error` is null if there was none. */
  onClose(error: Error | null): void;
};

/** A socket that is being opened or is open. */
export type OpeningSocket = {
  close(): void;
};

type Address = { hostname: string; port: number };

/** Formats host and port as in a URL. */
const formatAuthority = ({ hostname, port }: Address): string =>
  `${hostname.includes(":") ? `[${hostname}]` : hostname}:${port}`;

/** Opens a connection to a server, through a proxy if the target has one. `onClose` is always called. */
export function openSocket(target: HttpTarget, listener: SocketListener): OpeningSocket {
  const { url, address, proxy = null, connectTimeoutMs = CONNECT_TIMEOUT_MS, onAbandon } = target;
  const isSecure = url.protocol === "https:";
  const name = url.hostname.replace(/^\[(.*)\]$/, "$1");
  const server = { hostname: address ?? name, port: Number(url.port) || (isSecure ? 443 : 80) };
  const tls = { serverName: name.replace(/\.$/, "") };
  /** The current socket. TLS within a tunnel has its own. */
  let socket: Socket | null = null;
  let isClosed = false;

  const fail = (error: Error) =>
    listener.onClose(proxy === null ? new ConnectError(error) : createProxyFailure(proxy, error));
  const timer = setTimeout(
    () => fail(new Error(`no connection${proxy ? ` to ${formatAuthority(server)}` : ""} in ${connectTimeoutMs} ms`)),
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
  // With TLS, nothing is sent until the certificate is verified.
  const secureHandlers = {
    ...handlers,
    handshake(secure: Socket, isAuthorized: boolean, error: Error | null) {
      if (isAuthorized) return open(secure);
      listener.onClose(createCertificateError(error));
    },
  };

  /** Stores a connected socket, or closes it if `close` has been called. Returns whether it is open. */
  function storeSocket(connected: Socket): boolean {
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
          if (storeSocket(connected)) onConnect(connected);
        },
        connectError: (_socket, error) => fail(error),
      },
    }).catch(fail);
  }

  function connectThroughTunnel(route: ProxyRoute): Promise<unknown> {
    const authority = formatAuthority(server);
    const readProxyResponse = createTunnelReader(route, authority);
    let isEstablished = false;
    /** Until the tunnel is established, the end of the connection is a failure of the proxy. After that, TLS reports the end. */
    const end = (error: Error | null) => {
      if (!isEstablished) fail(error ?? new Error("it closed the connection without a response"));
      else if (!isSecure) listener.onClose(error);
    };
    const useTunnel = (raw: Socket) => {
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
          isEstablished = readProxyResponse(bytes);
          if (isEstablished) useTunnel(raw);
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
  if (proxy?.isTunnel) connecting = connectThroughTunnel(proxy);
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
