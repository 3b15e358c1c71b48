import type { Socket } from "bun";
import { type HttpTarget, type OpeningSocket, openSocket } from "./open-socket.ts";
import { createResponseParser, type ResponseHead, type ResponseParser } from "./response-parser.ts";

/** Callbacks for the events of one request. `onClose` is called once, after all others. */
export type ResponseHandlers = {
  /** Called for each packet. */
  onBytes?: (() => void) | undefined;
  onHead(head: ResponseHead): void;
  onBody(bytes: Uint8Array): void;
  /** Called at the end. `error` is null if the response is complete. */
  onClose(error: Error | null): void;
};

/**
 * A request that was sent on a connection. After the request has ended, these methods have no effect, because another request
 * may be using the connection.
 */
export type SentRequest = {
  pause(): void;
  resume(): void;
  /** Closes the connection. The request fails with this error. */
  abort(error: Error): void;
};

/** The value of `socket.readyState` for a socket that is open in both directions. */
const OPEN = 1;
/** Subtracted from the server's keep-alive timeout, which starts before the response arrives here. */
const KEEP_ALIVE_MARGIN_MS = 1_000;

/** A connection to a server, for sequential requests. */
export class HttpConnection {
  /** Whether the connection was used before. The server may then have closed it without notice. */
  isReused = false;
  /** Whether any part of the response to the current request has arrived. */
  hasResponded = false;
  /** When the connection became idle, in milliseconds since 1970. */
  idleSinceMs = 0;
  /** The server's keep-alive timeout, or Infinity if unknown. */
  keepAliveMs = Number.POSITIVE_INFINITY;
  #socket: Socket | null = null;
  /** The handlers of the current request, which also identify it. */
  #handlers: ResponseHandlers | null = null;
  #parser: ResponseParser | null = null;
  #unsentBytes: Uint8Array | null = null;
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

  /** Whether another request can be sent. */
  get isIdle(): boolean {
    return (
      !this.#isClosed && this.#handlers === null && this.#unsentBytes === null && this.#socket?.readyState === OPEN
    );
  }

  /** Sends a request. Must not be called during another request. On a closed connection, the request fails immediately. */
  send(request: Uint8Array, handlers: ResponseHandlers): SentRequest {
    if (this.#handlers) throw new Error("the connection is in use");
    this.hasResponded = false;
    this.#canReuse = false;
    this.#handlers = handlers;
    this.#unsentBytes = request;
    const receiver = {
      onHead: handlers.onHead,
      onBody: handlers.onBody,
      onEnd: (canReuse: boolean, keepAliveSeconds: number | null) => {
        // If the response arrived before the whole request was sent, the connection can't be reused.
        this.#canReuse = canReuse && this.#unsentBytes === null;
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

  /** Closes the connection, which must not have a request in progress. */
  discard(): void {
    if (!this.#handlers) this.#close(null);
  }

  #flush(): void {
    const { length } = this.#unsentBytes ?? [];
    if (!this.#socket || !this.#unsentBytes || length === undefined) return;
    const written = this.#socket.write(this.#unsentBytes);
    if (written >= 0) this.#unsentBytes = written >= length ? null : this.#unsentBytes.subarray(written);
    // While the socket is closing, received data must be read, because a server may reject an incomplete request.
    else if (this.#socket.readyState < 0) this.#close(new Error("the connection is closed"));
  }

  #receive(bytes: Uint8Array): void {
    if (this.#isClosed) return;
    this.hasResponded = true;
    this.#handlers?.onBytes?.();
    try {
      if (!this.#parser) throw new Error("unexpected data without a request");
      this.#parser.push(bytes);
      // The reader may have aborted the request while receiving these bytes.
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
    // The last reader may have paused the socket.
    this.#socket?.resume();
    // Idle connections must not keep the process alive.
    this.#socket?.unref();
    this.#end(null);
    // Deferred, because the server may close the connection in the same packet.
    setImmediate(() => setImmediate(() => this.isIdle && this.#onIdle(this)));
  }

  #close(error: Error | null): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#opening.close();
    this.#onClosed(this);
    const isComplete = error === null && this.#parser?.close() === true;
    this.#end(isComplete ? null : (error ?? new Error("connection lost")));
  }

  /** Ends the request. Detaches it first, so that its reader can no longer affect the connection. */
  #end(error: Error | null): void {
    const handlers = this.#handlers;
    this.#handlers = null;
    this.#parser = null;
    this.#unsentBytes = null;
    handlers?.onClose(error);
  }
}
