import type { Socket } from "bun";
import { type HttpTarget, type OpeningSocket, openSocket } from "./open-socket.ts";
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
  /** Of the request under way; their identity tells one request from the next. */
  #handlers: ResponseHandlers | null = null;
  #parser: ResponseParser | null = null;
  #unsent: Uint8Array | null = null;
  #isClosed = false;
  #canReuse = false;
  readonly #headBytesMax: number | undefined;
  readonly #opening: OpeningSocket;
  readonly #onIdle: (connection: HttpConnection) => void;
  readonly #onGone: (connection: HttpConnection) => void;

  /**
   * @param onIdle the answer is whole, and another request may follow.
   * @param onGone it is closed.
   */
  constructor(
    target: HttpTarget,
    onIdle: (connection: HttpConnection) => void,
    onGone: (connection: HttpConnection) => void,
  ) {
    this.#headBytesMax = target.headBytesMax;
    this.#onIdle = onIdle;
    this.#onGone = onGone;
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
    this.#opening.close();
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
