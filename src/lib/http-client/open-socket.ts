import type { Socket } from "bun";
import { ConnectError, createCertificateError } from "./errors.ts";
import { createProxyFailure, encodeConnect, type ProxyRoute } from "./proxy.ts";
import { createTunnelReader } from "./tunnel.ts";

/**
 * Longest time until a new connection is open, with its TLS handshake. No model thinks meanwhile, so a server that cannot be
 * reached need not be waited for as long as a model that is silent.
 */
export const CONNECT_TIMEOUT_MS = 10_000;
/**
 * Silence after which the system asks the server whether the connection still exists. A model may think for minutes: what
 * lies between (a NAT, a load balancer) is reminded of the connection, and a server that has vanished is noticed 10 s later.
 */
export const PROBE_AFTER_MS = 15_000;

/** Whom to connect to, and how. */
export type HttpTarget = {
  /** Says whether TLS is spoken, and whose name the certificate must bear. */
  url: URL;
  /** Names the server whose connections serve it. */
  origin: string;
  /** The IP address to connect to; without it the host of the URL is looked up. */
  address?: string;
  /** The proxy to connect by; absent or null: none. */
  proxy?: ProxyRoute | null;
  /** In place of CONNECT_TIMEOUT_MS. */
  connectTimeoutMs?: number;
  /** In place of the parser's own bound on the head of a response. */
  headBytesMax?: number;
  /**
   * The connection was given up before it was open. The system goes on trying, for about two minutes, and holds a descriptor
   * meanwhile. @param ended fulfils when that is over.
   */
  onAbandon?: (ended: Promise<unknown>) => void;
};

export type SocketListener = {
  /** It may be written to: over TLS, the certificate is known to be that of the server. */
  onOpen(socket: Socket): void;
  onData(bytes: Uint8Array): void;
  onDrain(): void;
  /** Null: it was closed without a fault. May be called more than once. */
  onClose(error: Error | null): void;
};

/** A connection that is being opened. */
export type OpeningSocket = {
  /** Closes it, at whatever stage it is. */
  close(): void;
};

type Address = { hostname: string; port: number };

/** Host and port, as a request names them. */
const writeAuthority = ({ hostname, port }: Address): string =>
  `${hostname.includes(":") ? `[${hostname}]` : hostname}:${port}`;

/** Opens a connection to a server, by a proxy if the target has one. The listener hears how it ends in any case. */
export function openSocket(target: HttpTarget, listener: SocketListener): OpeningSocket {
  const { url, address, proxy = null, connectTimeoutMs = CONNECT_TIMEOUT_MS, onAbandon } = target;
  const isSecure = url.protocol === "https:";
  const name = url.hostname.replace(/^\[(.*)\]$/, "$1");
  const server = { hostname: address ?? name, port: Number(url.port) || (isSecure ? 443 : 80) };
  const tls = { serverName: name.replace(/\.$/, "") };
  /** The newest one: TLS in a tunnel has a socket of its own. */
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
  // Over TLS nothing is sent before the certificate is known to be that of the server.
  const secureHandlers = {
    ...handlers,
    handshake(secure: Socket, isAuthorized: boolean, error: Error | null) {
      if (isAuthorized) return open(secure);
      listener.onClose(createCertificateError(error));
    },
  };

  /** Takes the socket, unless nobody wants it any more. */
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
    /** Until the tunnel stands, its end is the proxy's; then TLS tells of it. */
    const end = (error: Error | null) => {
      if (!isEstablished) fail(error ?? new Error("it closed the connection without an answer"));
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
          listener.onClose(error instanceof Error ? error : new Error("no tunnel"));
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
