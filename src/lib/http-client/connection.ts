import type { Socket } from "bun";
import { type HttpTarget, type OpeningSocket, openSocket } from "./open-socket.ts";
import { createResponseParser, type ResponseHead, type ResponseParser } from "./response-parser.ts";

/** Events of one request; `onClose` is last, and called once. */
export type ResponseHandlers = {
  /** A packet arrived, with any content. */
  onBytes?: (() => void) | undefined;
  onHead(head: ResponseHead): void;
  onBody(bytes: Uint8Array): void;
  /** Null: the response is complete. */
  onClose(error: Error | null): void;
};

/**
 * One request on its connection. After it has ended, these methods do nothing, because the connection may already serve
 * another request.
 */
export type SentRequest = {
  pause(): void;
  resume(): void;
  /** Closes the connection; the request fails with this error. */
  abort(error: Error): void;
};

/** Value of `socket.readyState`: connected in both directions. */
const OPEN = 1;
/** The server starts its keep-alive timeout before its response arrives here. */
const KEEP_ALIVE_MARGIN_MS = 1_000;

/** A connection to a server, for sequential requests. */
export class HttpConnection {
  /** Whether it has served a request before: then the server may have closed it unnoticed. */
  isReused = false;
  /** Whether any part of a response to its request has arrived. */
  hasAnswered = false;
  /** Start of its idle time, in milliseconds of `Date.now()`. */
  idleSinceMs = 0;
  /** The server's announced keep-alive timeout; Infinity if unknown. */
  keepAliveMs = Number.POSITIVE_INFINITY;
  #socket: Socket | null = null;
  /** Handlers of the current request; also used to distinguish requests. */
  #handlers: ResponseHandlers | null = null;
  #parser: ResponseParser | null = null;
  #unsent: Uint8Array | null = null;
  #isClosed = false;
  #canReuse = false;
  readonly #headBytesMax: number | undefined;
  readonly #opening: OpeningSocket;
  readonly #onIdle: (connection: HttpConnection) => void;
  readonly #onClosed: (connection: HttpConnection) => void;

  /**
   * @param onIdle called when the response is complete and another request may follow.
   * @param onClosed called when the connection is closed.
   */
  constructor(
    target: HttpTarget,
    onIdle: (connection: HttpConnection) => void,
    onClosed: (connection: HttpConnection) => void,
  ) {
    this.#headBytesMax = target.headBytesMax;
    this.#onIdle = onIdle;
    this.#onClosed = onClosed;
    this.#opening = openSocket(target, {
      onOpen: (socket) => {
        this.#socket = socket;
        this.#flush();
      },
      onData: (bytes) => this.#receive(bytes),
      onDrain: () => this.#flush(),
      onClose: (error) => this.#close(error),
    });
  }

  /** Whether it can take another request: open, unused, and with nothing left to send. */
  get isIdle(): boolean {
    return !this.#isClosed && this.#handlers === null && this.#unsent === null && this.#socket?.readyState === OPEN;
  }

  /** Sends a request; only while no other is in progress. On a closed connection, the request fails immediately. */
  send(request: Uint8Array, handlers: ResponseHandlers): SentRequest {
    if (this.#handlers) throw new Error("the connection is in use");
    this.hasAnswered = false;
    this.#canReuse = false;
    this.#handlers = handlers;
    this.#unsent = request;
    const receiver = {
      onHead: handlers.onHead,
      onBody: handlers.onBody,
      onEnd: (canReuse: boolean, keepAliveSeconds: number | null) => {
        // If the response arrived before the whole request was sent, the rest of the request stays unsent.
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

  /** Closes a connection that has no request. */
  discard(): void {
    if (!this.#handlers) this.#close(null);
  }

  #flush(): void {
    const { length } = this.#unsent ?? [];
    if (!this.#socket || !this.#unsent || length === undefined) return;
    const written = this.#socket.write(this.#unsent);
    if (written >= 0) this.#unsent = written >= length ? null : this.#unsent.subarray(written);
    // While it is only closing, received data must still be read: a server may refuse a request before it is complete.
    else if (this.#socket.readyState < 0) this.#close(new Error("the connection is closed"));
  }

  #receive(bytes: Uint8Array): void {
    if (this.#isClosed) return;
    this.hasAnswered = true;
    this.#handlers?.onBytes?.();
    try {
      if (!this.#parser) throw new Error("unexpected data without a request");
      this.#parser.push(bytes);
      // The reader may have aborted during these bytes: then the connection is closed and has no request.
      if (!this.#isClosed && this.#parser.isOver()) this.#finish();
    } catch (error) {
      this.#close(error instanceof Error ? error : new Error("malformed response"));
    }
  }

  #finish(): void {
    if (!this.#canReuse) {
      this.#close(null);
      return;
    }
    this.isReused = true;
    this.idleSinceMs = Date.now();
    // If the last reader paused the socket, the next response would never be read.
    this.#socket?.resume();
    // Idle connections must not keep the process alive.
    this.#socket?.unref();
    this.#end(null);
    // The end of the connection may be in the same packet, and is only read in the next turn of the event loop.
    setImmediate(() => setImmediate(() => this.isIdle && this.#onIdle(this)));
  }

  #close(error: Error | null): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#opening.close();
    this.#onClosed(this);
    const isWhole = error === null && this.#parser?.close() === true;
    this.#end(isWhole ? null : (error ?? new Error("connection lost")));
  }

  /** Detaches the request before notifying its reader, so that the reader can no longer affect the connection. */
  #end(error: Error | null): void {
    const handlers = this.#handlers;
    this.#handlers = null;
    this.#parser = null;
    this.#unsent = null;
    handlers?.onClose(error);
  }
}
