import type { Socket } from "bun";
import { createResponseParser, type ResponseHead, type ResponseParser } from "./response-parser.ts";

/** What happens to one request; `onClose` comes last, and once. */
export type ResponseHandlers = {
  /** A packet came, of whatever it is a part. */
  onBytes?: (() => void) | undefined;
  onHead(head: ResponseHead): void;
  onBody(bytes: Uint8Array): void;
  /** Null: the answer is whole. */
  onClose(error: Error | null): void;
};

/**
 * One request on its connection. After the request has ended these do nothing: the connection may serve another one by
 * then.
 */
export type SentRequest = {
  pause(): void;
  resume(): void;
  /** Closes the connection; the request ends with this error. */
  abort(error: Error): void;
};

/** Of `socket.readyState`: connected, in both directions. */
const OPEN = 1;
/** A server that says how long it keeps a connection began to count before its answer arrived here. */
const KEEP_ALIVE_MARGIN_MS = 1_000;
/**
 * Silence after which the system asks the server whether the connection still exists. A model may think for minutes: what
 * lies between (a NAT, a load balancer) is reminded of the connection, and a server that has vanished is noticed 10 s later.
 */
export const PROBE_AFTER_MS = 15_000;
/**
 * Longest time until a new connection is open, with its TLS handshake. No model thinks meanwhile, so a server that cannot be
 * reached need not be waited for as long as a model that is silent.
 */
export const CONNECT_TIMEOUT_MS = 10_000;

/** Whom to connect to, and how. */
export type HttpTarget = {
  /** Says whether TLS is spoken, and whose name the certificate must bear. */
  url: URL;
  /** Names the server whose connections serve it. */
  origin: string;
  /** The IP address to connect to; without it the host of the URL is looked up. */
  address?: string;
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

/** No connection was opened, so nothing of a request has been sent. */
export class ConnectError extends Error {
  readonly code: string | undefined;

  constructor(error: Error) {
    super(error.message, { cause: error });
    this.code = "code" in error && typeof error.code === "string" ? error.code : undefined;
  }
}

/** The server answered, and could not show that it is the one that was meant. Nothing of a request has been sent. */
export class CertificateError extends Error {}

/** A connection to a server, for one request after the other. */
export class HttpConnection {
  /** Whether it has served a request before: the server may have closed it without our knowing. */
  isReused = false;
  /** Whether anything of an answer to its request has come. */
  hasAnswered = false;
  /** Since when it waits for the next request, in milliseconds of `Date.now()`. */
  idleSinceMs = 0;
  /** How long the server says that it waits for the next request; Infinity if it doesn't say. */
  keepAliveMs = Number.POSITIVE_INFINITY;
  #socket: Socket | null = null;
  /** Open, but not to be written to yet: the certificate is not known. */
  #unproven: Socket | null = null;
  /** Of the request under way; their identity tells one request from the next. */
  #handlers: ResponseHandlers | null = null;
  #parser: ResponseParser | null = null;
  #unsent: Uint8Array | null = null;
  #isClosed = false;
  #canReuse = false;
  readonly #headBytesMax: number | undefined;
  readonly #connectTimer: Timer;
  #connecting: Promise<unknown> | null = null;
  readonly #onAbandon: HttpTarget["onAbandon"];
  readonly #onIdle: (connection: HttpConnection) => void;
  readonly #onGone: (connection: HttpConnection) => void;

  /**
   * @param onIdle the answer is whole, and another request may follow.
   * @param onGone it is closed.
   */
  constructor(
    { url, address, connectTimeoutMs = CONNECT_TIMEOUT_MS, headBytesMax, onAbandon }: HttpTarget,
    onIdle: (connection: HttpConnection) => void,
    onGone: (connection: HttpConnection) => void,
  ) {
    this.#headBytesMax = headBytesMax;
    this.#onAbandon = onAbandon;
    this.#onIdle = onIdle;
    this.#onGone = onGone;
    const isSecure = url.protocol === "https:";
    const hostname = url.hostname.replace(/^\[(.*)\]$/, "$1");
    const fail = (error: Error) => this.#close(new ConnectError(error));
    this.#connectTimer = setTimeout(() => fail(new Error(`no connection in ${connectTimeoutMs} ms`)), connectTimeoutMs);
    this.#connectTimer.unref();
    const opened = (socket: Socket) => {
      clearTimeout(this.#connectTimer);
      if (this.#isClosed) return void socket.terminate();
      this.#socket = socket;
      socket.setKeepAlive(true, PROBE_AFTER_MS);
      this.#flush();
    };
    this.#connecting = Bun.connect({
      hostname: address ?? hostname,
      port: Number(url.port) || (isSecure ? 443 : 80),
      ...(isSecure && { tls: { serverName: hostname.replace(/\.$/, "") } }),
      socket: {
        // Over TLS nothing is sent before the certificate is known to be that of the server.
        open: (socket) => {
          if (!isSecure) return opened(socket);
          if (this.#isClosed) return void socket.terminate();
          this.#unproven = socket;
        },
        ...(isSecure && {
          handshake: (socket: Socket, isAuthorized: boolean, error: Error | null) => {
            if (isAuthorized) return opened(socket);
            this.#close(new CertificateError(`the certificate is not trusted: ${error?.message ?? "unknown reason"}`));
            socket.terminate();
          },
        }),
        data: (_socket, bytes) => this.#receive(bytes),
        drain: () => this.#flush(),
        end: () => this.#close(null),
        close: (_socket, error) => this.#close(error ?? null),
        error: (_socket, error) => this.#close(error),
        connectError: (_socket, error) => fail(error),
      },
    }).catch(fail);
  }

  /** Whether it can take another request: open, nobody's, and with nothing left to send. */
  get isIdle(): boolean {
    return !this.#isClosed && this.#handlers === null && this.#unsent === null && this.#socket?.readyState === OPEN;
  }

  /** Sends a request; only while no other is under way. On a closed connection the request fails at once. */
  send(request: Uint8Array, handlers: ResponseHandlers): SentRequest {
    if (this.#handlers) throw new Error("the connection serves another request");
    this.hasAnswered = false;
    this.#canReuse = false;
    this.#handlers = handlers;
    this.#unsent = request;
    const receiver = {
      onHead: handlers.onHead,
      onBody: handlers.onBody,
      onEnd: (canReuse: boolean, keepAliveSeconds: number | null) => {
        // An answer that comes before its request is sent leaves the rest of the request unsent.
        this.#canReuse = canReuse && this.#unsent === null;
        if (keepAliveSeconds !== null) this.keepAliveMs = keepAliveSeconds * 1_000 - KEEP_ALIVE_MARGIN_MS;
      },
    };
    this.#parser = createResponseParser(receiver, this.#headBytesMax);
    if (this.#isClosed) this.#end(new Error("the connection is closed"));
    else {
      this.#socket?.ref();
      this.#flush();
    }
    return {
      pause: () => {
        if (this.#handlers === handlers) this.#socket?.pause();
      },
      resume: () => {
        if (this.#handlers === handlers) this.#socket?.resume();
      },
      abort: (error) => {
        if (this.#handlers === handlers) this.#close(error);
      },
    };
  }

  /** Closes a connection that serves no request. */
  discard(): void {
    if (!this.#handlers) this.#close(null);
  }

  #flush(): void {
    const { length } = this.#unsent ?? [];
    if (!this.#socket || !this.#unsent || length === undefined) return;
    const written = this.#socket.write(this.#unsent);
    if (written >= 0) this.#unsent = written >= length ? null : this.#unsent.subarray(written);
    // If it is only closing, what has come before is still to be read: a server may refuse a request half-way.
    else if (this.#socket.readyState < 0) this.#close(new Error("the connection is closed"));
  }

  #receive(bytes: Uint8Array): void {
    if (this.#isClosed) return;
    this.hasAnswered = true;
    this.#handlers?.onBytes?.();
    try {
      if (!this.#parser) throw new Error("bytes without a request");
      this.#parser.push(bytes);
      // A reader may have given up in the middle of these bytes: then it is closed, and nobody's any more.
      if (!this.#isClosed && this.#parser.isOver()) this.#finish();
    } catch (error) {
      this.#close(error instanceof Error ? error : new Error("a broken answer"));
    }
  }

  #finish(): void {
    if (!this.#canReuse) {
      this.#close(null);
      return;
    }
    this.isReused = true;
    this.idleSinceMs = Date.now();
    // A reader that paused it for the last packets would leave the next answer unread.
    this.#socket?.resume();
    // Waiting for another request is no reason for the process to live.
    this.#socket?.unref();
    this.#end(null);
    // The end of the connection may have come in the same packet, and is only read in the next turn of the event loop.
    setImmediate(() => setImmediate(() => this.isIdle && this.#onIdle(this)));
  }

  #close(error: Error | null): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearTimeout(this.#connectTimer);
    (this.#socket ?? this.#unproven)?.terminate();
    if (!this.#socket && !this.#unproven && this.#connecting) this.#onAbandon?.(this.#connecting);
    this.#onGone(this);
    const isWhole = error === null && this.#parser?.close() === true;
    this.#end(isWhole ? null : (error ?? new Error("the connection broke")));
  }

  /** Lets go of the request before its reader hears of the end: whatever the reader does then, it has no connection. */
  #end(error: Error | null): void {
    const handlers = this.#handlers;
    this.#handlers = null;
    this.#parser = null;
    this.#unsent = null;
    handlers?.onClose(error);
  }
}
